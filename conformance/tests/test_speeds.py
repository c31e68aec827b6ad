"""Does the page show what a timings file holds, safely, and do the figures place it where it belongs?"""

import json
import re

import pytest
from typer.testing import CliRunner

from mmrec.conformance import timings
from mmrec.conformance.cli import app
from mmrec.conformance.report import render
from mmrec.conformance.report.speed_figures import roofline, scaling_figure
from mmrec.conformance.report.speeds import markdown_of, speeds_of
from mmrec.conformance.tests.test_report import HOSTILE, Reader, document_of, record

DEVICE = {"kind": "cuda", "name": "GPU", "title": "a GPU", "cache_bytes": 1000, "copy_rate": 1e12,
          "product_rates": {"float32": 1e13, "bfloat16": 1e14}}  # fmt: skip


def row(implementation="triton", seconds=1e-3, limit=5e-4, **more):
    lengths = {"B": 1, "T": 1024, "D": 64, "E": 1} | more.pop("lengths", {})
    direction, dtype = more.get("direction", "forward"), more.get("dtype", "float32")
    shape = "-".join(f"{letter}{lengths[letter]}" for letter in "BTD")
    return {
        "op": "linear_recurrence", "implementation": implementation, "direction": direction, "shape": shape,
        "lengths": lengths, "regime": "", "size": shape, "dtype": dtype, "layout": "BTD", "peer": False,
        "scaling": False, "group": f"linear_recurrence {direction} {shape} {dtype}", "seconds": seconds,
        "bytes": 500_000_000, "operations": 100_000_000, "roof_seconds": limit, "share": limit / seconds,
        "copy_share": limit / seconds, "bound_by": "copy", "beyond_cache": True, "ratio": None,
        "judged": "judged in results/result.json", "budget": None, "wrong": False, **more,
    }  # fmt: skip


def peer(name, seconds, layout="BTD", budget=0.5, wrong=False, **more):
    return row(name, seconds, peer=True, layout=layout, budget=budget, wrong=wrong, **more)


def document(*rows, untimed=(), problems=()):
    return {"schema": 1, "created": "2026-01-02T03:04:05+00:00", "device": DEVICE, "software": {"torch": "2.11.0"},
            "wrong_beyond": 100.0, "rows": list(rows), "untimed": list(untimed), "problems": list(problems)}  # fmt: skip


ROWS = (row("torch", 0.02), row("triton", 6e-4), row("triton", 3e-4, dtype="bfloat16"), peer("right", 2e-3),
        peer("wrong", 5.1e-4, budget="inf", wrong=True), peer("time first", 7e-4, "BDT"))  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "benchmarks.json"
    timings.save({name: value for name, value in document(*ROWS).items() if name != "schema"}, path)
    return path


# ---- the file --------------------------------------------------------------------------
def test_a_timings_file_is_read_as_it_was_saved(saved):
    assert timings.read(saved) == document(*ROWS)


@pytest.mark.parametrize("text", [None, "not JSON", json.dumps({"schema": 1}), json.dumps(document({}))])
def test_a_file_that_is_none_is_refused_by_name(tmp_path, text):
    path = tmp_path / "benchmarks.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ValueError, match=r"benchmarks\.json: "):
        timings.read(path)


# ---- the tables ------------------------------------------------------------------------
def test_the_best_peer_of_each_layout_is_the_fastest_that_is_right():
    (table,) = speeds_of(document(*ROWS))["tables"]

    assert table["columns"] == ["torch", "triton", "best peer in [B,T,D]", "best peer in [B,D,T]"]
    assert [cell["name"] for cell in table["rows"][0]["cells"]] == ["", "", "right", "time first"]
    assert [cell["fastest"] for cell in table["rows"][0]["cells"]] == [False, True, False, False]
    assert [cell["time"] for cell in table["rows"][1]["cells"]] == ["", "300 us", "", ""]


def test_the_markdown_holds_every_line_of_the_tables_with_the_fastest_in_bold():
    text = markdown_of(document(*ROWS, problems=["suspicious: too fast"]))

    assert "Measured 2026-01-02 on a GPU: it copies 1000 GB/s" in text
    line = next(line for line in text.splitlines() if "forward, float32" in line)
    assert line == ("| forward, float32, B1-T1024-D64 | 500 us (copy) | 20 ms, 2.5\u00a0% | **600 us, 83.3\u00a0%** | "
                    "2 ms, 25\u00a0% (right) | 700 us, 71.4\u00a0% (time first) |")  # fmt: skip
    assert "- **suspicious: too fast**" in text
    assert "- wrong: wrong (BTD), linear_recurrence forward B1-T1024-D64 float32, ∞\u00a0× its bound" in text


def test_what_was_not_timed_is_named_in_its_cell_and_in_a_line_that_says_why():
    spent = [
        row("jax", reason="spent"),
        peer("right", 1.0, reason="spent"),
        row("torch", dtype="float64", reason="slow"),
    ]
    timed = document(*ROWS, row("jax", dtype="bfloat16"), untimed=spent)
    text = markdown_of(timed)

    (table,) = speeds_of(timed)["tables"]
    assert [cell["name"] for cell in table["rows"][0]["cells"]] == ["", "", "not timed", "right", "time first"]
    assert "| not timed |" in next(line for line in text.splitlines() if "forward, float32" in line)
    assert "- 2 x spent: jax linear_recurrence (1), right linear_recurrence (1)\n- 1 x slow\n" in text


# ---- the page --------------------------------------------------------------------------
def test_the_page_shows_times_peers_reasons_and_problems():
    untimed = [{**row(), "reason": "it is too slow"}] * 2
    page = render(document_of([record()]), document(*ROWS, untimed=untimed, problems=["suspicious: too fast"]))
    reader = Reader(page)
    text = " ".join(reader.text.split())

    assert {"speeds", "speed-linear_recurrence", "roofline-title"} <= set(reader.ids)
    assert "scaling-title" not in reader.ids
    assert "2 x it is too slow: triton linear_recurrence (2)" in text and "✕ suspicious: too fast" in text
    assert re.search(r"wrong BTD linear_recurrence forward B1-T1024-D64 float32 510 us 98\W% ✕ wrong ∞\W×", text)
    assert reader.open == [] and len(reader.ids) == len(set(reader.ids))
    assert {reference.removeprefix("#") for reference in reader.references} <= set(reader.ids)


def test_without_times_the_page_does_not_speak_of_speed():
    assert 'id="speeds"' not in render(document_of([record()]))


def test_hostile_text_stays_text():
    rows = [
        row(HOSTILE),
        peer(HOSTILE, 1e-3),
        row(HOSTILE, scaling=True),
        row(HOSTILE, scaling=True, lengths={"T": 64}),
    ]
    page = render(document_of([record()]), document(*rows, untimed=[{**row(), "reason": HOSTILE}], problems=[HOSTILE]))

    assert not {"script", "img"} & set(Reader(page).tags)


# ---- the figures -----------------------------------------------------------------------
def heights(svg):
    """Where marks stand, by the beginning of their titles."""
    marks = re.findall(r'<g><title>(\w+):[^<]*</title><path class="mark [^"]*" d="M([\d.]+) ([\d.]+)m', str(svg))
    return {name: (float(x), float(y)) for name, x, y in marks}


def test_what_moves_its_bytes_at_the_copy_rate_stands_on_the_roof():
    at_limit = row("limit", 5e-4)  # 500 MB at 1e12 bytes a second
    drawn = roofline([at_limit, row("slow", 5e-2)], DEVICE)
    (roof,) = re.findall(r'class="allowed" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)', str(drawn))
    left, low, right, high = map(float, roof)

    x, y = heights(drawn)["limit"]

    assert y == pytest.approx(low + (x - left) / (right - left) * (high - low), abs=0.2)
    assert heights(drawn)["slow"][0] == x and heights(drawn)["slow"][1] > y


def test_the_roofline_has_a_panel_a_dtype_and_marks_wrong_peers():
    drawn = str(roofline(ROWS, DEVICE))

    assert "float32: operations a second" in drawn and "bfloat16: operations a second" in drawn
    assert drawn.count('class="peer wrong"') == 1 and drawn.count('class="peer"') == 2


def test_scaling_has_a_panel_an_axis_with_the_points_that_lie_on_it():
    points = [row("triton", scaling=True), row("triton", 2e-3, scaling=True, lengths={"T": 4096}),
              row("triton", 4e-3, scaling=True, lengths={"T": 256}), row("triton", scaling=True, lengths={"B": 8}),
              row("triton", scaling=True, lengths={"D": 8})]  # fmt: skip
    panels = str(scaling_figure(points)).split("<g ")[1:]

    assert [panel.count('class="mark') for panel in panels] == [3, 2, 2]
    assert "B = 1, D = 64" in panels[0] and "T = 1,024, D = 64" in panels[1] and "B = 1, T = 1,024" in panels[2]
    assert 'class="x" x="58.0" y="198">256<' in panels[0]


def test_nothing_is_drawn_without_points():
    assert scaling_figure([]) == ""


# ---- the command -----------------------------------------------------------------------
def test_the_report_takes_the_times_beside_the_result_or_those_it_is_given(tmp_path, saved):
    result = tmp_path / "result.json"
    result.write_text(json.dumps(document_of([record()])))
    report = tmp_path / "report.html"

    assert CliRunner().invoke(app, ["report", str(result)]).exit_code == 0
    assert 'id="speeds"' in report.read_text()
    saved.rename(tmp_path / "elsewhere.json")
    assert CliRunner().invoke(app, ["report", str(result)]).exit_code == 0
    assert 'id="speeds"' not in report.read_text()
    given = ["report", str(result), "--benchmarks", str(tmp_path / "elsewhere.json")]
    assert CliRunner().invoke(app, given).exit_code == 0
    assert 'id="speeds"' in report.read_text()
    missing = CliRunner().invoke(app, ["report", str(result), "--benchmarks", str(tmp_path / "none.json")])
    assert missing.exit_code == 2 and "none.json: no such file" in missing.stderr
