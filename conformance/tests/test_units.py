"""Are tests that share compiled programs kept together, and long units begun first?"""

from types import SimpleNamespace

from mmrec.conformance.units import StayingWithSubjects, ordered, unit_of


def node(kind, op="", name="test", experiment=False):
    """As much of a pytest item as the units look at."""
    markers = {"conformance": SimpleNamespace(args=(kind,)) if kind else None, "experiment": experiment or None}
    params = {"question": ("torch", op, "float32", None)}
    return SimpleNamespace(name=name, get_closest_marker=markers.get, callspec=SimpleNamespace(params=params))


def test_contract_and_properties_are_one_unit_and_long_tests_stand_alone():
    units = [unit_of("torch", "decay_gate", "float32", node(kind, name=name)) for kind, name in (
        ("contract", "a"), ("property", "b"), ("values", "c"), ("values", "d"), ("long", "e"), ("long", "f"))]  # fmt: skip
    assert units[0] == units[1] == "decay_gate-float32 of torch"
    assert units[2] == units[3] == "decay_gate-float32-values of torch"
    assert len(set(units)) == 4


def test_one_process_runs_cheap_kinds_first_and_many_begin_with_the_longest():
    contract = node("contract", "decay_gate")
    scan, steps = node("gradients", "decay_product"), node("gradients", "gated_recurrence")
    many_options = node("gradients", "stabilized_recurrence")
    claim, other = node("", experiment=True), node("")
    items = [other, claim, scan, contract, many_options, steps]
    assert ordered(items, distributed=False) == [contract, scan, many_options, steps, other, claim]
    assert ordered(items, distributed=True) == [claim, many_options, steps, contract, scan, other]


def test_a_process_stays_with_its_subject_while_it_can():
    units = [f"{op} of {subject}" for op in ("scan", "gate") for subject in ("torch", "jax", "triton")]
    assigned = {"one": {"scan of torch": {}}, "two": {"gate of torch": {}, "scan of jax": {}}, "new": {}}
    scheduler = SimpleNamespace(workqueue=dict.fromkeys(units), assigned_work=assigned)

    def choice(process):
        return StayingWithSubjects._choice(scheduler, process)

    assert choice("one") == "scan of torch" and choice("two") == "scan of jax"
    assert choice("new") == "scan of triton"  # nobody is with it yet
    scheduler.workqueue = {"gate of jax": None, "gate of torch": None}
    assert choice("new") == "gate of jax" and choice("one") == "gate of torch"
    scheduler.workqueue = {"gate of jax": None}
    assert choice("one") == "gate of jax"
