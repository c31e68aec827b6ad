"""Does the judge survive whatever a subject does, and say what it was?

One child process serves many questions; each start costs seconds, so the tests that kill it are few.
"""

import numpy as np
import pytest

from mmrec.conformance.subjects import SubjectError, from_dictionary
from mmrec.conformance.verdicts import Verdict
from mmrec.conformance.worker import Request, Worker, respond

SUBJECT = '''
import os, signal, time
import numpy as np

remembered = None

def right(gamma, initial):
    return (initial[:, None] * np.cumprod(gamma, axis=1, dtype=np.float32)).astype(gamma.dtype)

def dispatch(gamma, initial):
    """What it does hangs on the initial value, so that one child serves every question."""
    what = int(initial[0, 0])
    if what == 1:
        raise RuntimeError("out of\\n  registers")
    if what == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == 3:
        os._exit(3)
    if what == 4:
        time.sleep(60)
    if what == 5:
        raise SystemExit(7)
    if what == 6:
        return os.getpid()
    return right(gamma, initial)

SUBJECT = {"name": "misbehaving", "framework": "numpy", "ops": {"decay_product": dispatch}}
'''
RIGHT, RAISES, KILLED, EXITS, HANGS, LEAVES = 0, 1, 2, 3, 4, 5


def question(what=RIGHT, **more):
    arrays = {"gamma": np.full((1, 3, 2), 0.5), "initial": np.full((1, 2), float(what))}
    return Request("decay_product", arrays, "float32", **more)


def in_process(function, framework="numpy", **more):
    return from_dictionary({"name": "f", "framework": framework, "ops": {"decay_product": function}, **more}, "test")


def asked(function, what=8, **more):
    return respond(in_process(function), question(what, **more))


# ---- in another process -------------------------------------------------------------------
@pytest.fixture(scope="module", params=["", "# mentions torch"], ids=["anew", "forked"])
def worker(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("subject") / "misbehaving.py"
    path.write_text(SUBJECT + request.param)
    worker = Worker(str(path), time_limit=60.0)
    yield worker
    worker.close()


def test_the_profile_says_who_it_is(worker):
    profile = worker.profile
    assert (profile.name, profile.framework, profile.ops) == ("misbehaving", "numpy", ("decay_product",))
    assert not profile.checked and not profile.differentiable and "numpy" in profile.environment


def test_an_answer_comes_back(worker):
    answer = worker.ask(question(RIGHT))
    assert answer.failure is None and answer.dtype == "float32" and answer.same_twice
    assert answer.result.shape == (1, 3, 2) and answer.mutated == answer.aliased == []


def test_a_subject_that_raises_lives_on(worker):
    process = worker.process.pid
    answer = worker.ask(question(RAISES))
    assert answer.failure is Verdict.RAISED and answer.exception == "RuntimeError"
    assert answer.message.startswith("RuntimeError: out of registers (misbehaving.py:") and "\n" not in answer.message
    assert worker.ask(question(RIGHT)).failure is None and worker.process.pid == process


@pytest.mark.parametrize(("what", "told"), [(KILLED, "killed by SIGKILL"), (EXITS, "exited with code 3"),
                                            (LEAVES, "exited with code 7")])  # fmt: skip
def test_a_subject_that_dies_is_told_and_started_again(worker, what, told):
    answer = worker.ask(question(what))
    assert answer.failure is Verdict.CRASHED and told in answer.message
    assert worker.ask(question(RIGHT)).failure is None


def test_a_subject_that_hangs_is_stopped_and_started_again(worker):
    worker.time_limit = 1.0
    try:
        answer = worker.ask(question(HANGS))
    finally:
        worker.time_limit = 60.0
    assert answer.failure is Verdict.TIMED_OUT and answer.message == "no answer within 1 s; the process was stopped"
    assert not worker.process.is_alive()
    assert worker.ask(question(RIGHT)).failure is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\nos._exit(9)\n", "while being imported, the process exited with code 9"),
        ("raise ValueError('no')\n", "cannot be imported: ValueError: no"),
        ("x = 1\n", "has no SUBJECT"),
    ],
)
def test_a_subject_that_cannot_be_imported_is_refused(tmp_path, text, told):
    path = tmp_path / "unimportable.py"
    path.write_text(text)
    with pytest.raises(SubjectError) as refused:
        Worker(str(path))
    assert told in str(refused.value) and str(path) in str(refused.value)


def test_a_closed_worker_is_gone(tmp_path):
    path = tmp_path / "brief.py"
    path.write_text(SUBJECT)
    worker = Worker(str(path))
    worker.close()
    assert not worker.process.is_alive()


# ---- what an answer is found to be (no process needed) -----------------------------------------
@pytest.mark.parametrize("returned", [[1.0, 2.0], None, 3.5, "result", (np.ones(2),), np.float32(1)])
def test_what_is_not_an_array_is_a_wrong_dtype(returned):
    answer = asked(lambda gamma, initial: returned)
    assert answer.failure is Verdict.WRONG_DTYPE
    assert f"returned {type(returned).__name__}, expected numpy.ndarray" in answer.message


def test_a_subclass_of_an_array_is_not_one():
    answer = asked(lambda gamma, initial: np.ma.masked_array(gamma))
    assert answer.failure is Verdict.WRONG_DTYPE and "MaskedArray" in answer.message


def test_the_dtype_that_came_back_is_reported():
    assert asked(lambda gamma, initial: gamma.astype(np.float64)).dtype == "float64"


def test_views_of_an_input_are_found():
    assert asked(lambda gamma, initial: gamma[:]).aliased == ["gamma"]
    assert asked(lambda gamma, initial: np.broadcast_to(initial[:, None], gamma.shape)).aliased == ["initial"]
    assert asked(lambda gamma, initial: gamma.copy()).aliased == []


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided"])
def test_changed_inputs_are_found_in_every_layout(layout):
    def halve(gamma, initial):
        gamma[0, 1] /= 2
        return gamma * 1

    def negate_zero(gamma, initial):
        initial *= -1
        return gamma * 1

    assert asked(halve, layout=layout).mutated == ["gamma"]
    assert asked(negate_zero, what=0, layout=layout).mutated == []  # twice: the same bits in the end
    assert asked(lambda gamma, initial: gamma * 1, layout=layout).mutated == []


def test_a_sign_of_zero_is_a_change():
    def set_negative_zero(gamma, initial):
        initial[...] = -0.0
        return gamma * 1

    assert asked(set_negative_zero, what=0).mutated == ["initial"]


def test_results_that_differ_between_calls_are_found():
    calls = []
    assert not asked(lambda gamma, initial: calls.append(1) or gamma + len(calls)).same_twice
    assert asked(lambda gamma, initial: gamma * np.nan).same_twice  # NaN is NaN
    assert not asked(lambda gamma, initial: calls.append(1) or gamma * (0.0 if len(calls) % 2 else -0.0)).same_twice


def test_another_shape_the_second_time_is_another_result():
    calls = []
    assert not asked(lambda gamma, initial: calls.append(1) or gamma[:, : len(calls)].copy()).same_twice


def test_a_refilled_buffer_is_read_again():
    others = {"gamma": np.full((1, 3, 2), 0.25), "initial": np.full((1, 2), 4.0)}
    answer = asked(lambda gamma, initial: gamma * initial[:, None], refill=others)
    assert np.all(answer.result == 4.0) and np.all(answer.refilled == 1.0)
    memory = {}
    answer = asked(lambda gamma, initial: memory.setdefault(gamma.ctypes.data, gamma * 1).copy(), refill=others)
    assert np.all(answer.refilled == answer.result)  # an answer remembered by address


def test_one_argument_may_have_another_dtype():
    answer = asked(lambda gamma, initial: np.zeros(initial.shape, initial.dtype), dtypes={"initial": "float64"})
    assert answer.dtype == "float64"


def test_layouts_are_what_they_say():
    seen = []

    def look(gamma, initial):
        seen.append((gamma.flags.c_contiguous, gamma.strides))
        return gamma * 1

    for layout in ("contiguous", "transposed", "strided"):
        answer = asked(look, layout=layout)
        assert np.all(answer.result == 0.5)
    contiguous, transposed, strided = seen[::2]
    assert contiguous[0] and not transposed[0] and not strided[0]
    assert transposed[1][0] < transposed[1][2] and strided[1][2] == 2 * contiguous[1][2]


def test_expanded_rows_share_memory_only_where_all_rows_are_equal():
    seen = []

    def look(gamma, initial):
        seen.append((gamma.strides[0], initial.strides[0]))
        return gamma * 1

    rows = {"gamma": np.full((2, 3, 2), 0.5), "initial": np.array([[1.0, 2.0], [3.0, 4.0]])}
    respond(in_process(look), Request("decay_product", rows, "float32", layout="expanded"))
    assert seen[0][0] == 0 and seen[0][1] != 0


def test_checked_mode_is_entered_when_asked_for():
    from contextlib import contextmanager

    entered = []

    @contextmanager
    def checked():
        entered.append("in")
        yield
        entered.append("out")

    subject = in_process(lambda gamma, initial: gamma * 1, checked=checked)
    respond(subject, question())
    assert entered == []
    respond(subject, question(checked=True))
    assert entered == ["in", "out"]


def test_bfloat16_is_a_dtype_of_numpy_subjects():
    arrays = {"gamma": np.full((1, 1, 1), 1.0078125), "initial": np.full((1, 1), 1.0078125)}
    subject = in_process(lambda gamma, initial: gamma * initial[:, None])
    answer = respond(subject, Request("decay_product", arrays, "bfloat16"))
    assert answer.dtype == "bfloat16" and answer.result[0, 0, 0] == 1.015625
