from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from fleet_autoscale.__main__ import main
from fleet_autoscale.simulation.traces import TRACES, BadTrace, replay


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_as_long_and_as_high_as_asked_for_and_repeats_by_seed(name: str) -> None:
    make = TRACES[name]
    rates = make(3600, 100.0, 1)
    assert len(rates) == 3600
    assert rates.min() > 0
    assert 60 < rates.mean() < 220
    assert np.array_equal(rates, make(3600, 100.0, 1))
    assert not np.array_equal(rates, make(3600, 100.0, 2))


def test_a_recorded_trace_is_interpolated(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time,rate\n1000,10\n1004,30\n1006,30\n")
    assert replay(path).tolist() == [10, 15, 20, 25, 30, 30]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n1,x\n", ":2: expected two numbers"),
        ("0,1\n0,2\n", ":2: times must grow"),
        ("0,1\n1,-2\n", "must not be negative"),
        ("time,rate\n", "at least two rows"),
    ],
)
def test_a_file_that_is_no_trace_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(BadTrace, match=message):
        replay(path)


def test_simulate_compares_policies_and_draws_them(tmp_path: Path) -> None:
    csv, svg = tmp_path / "trace.csv", tmp_path / "pods.svg"
    csv.write_text("0,200\n60,900\n120,200\n")
    words = ["simulate", "--replay", str(csv), "--plot", str(svg)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert [line.split("|")[1].strip() for line in result.output.splitlines()[2:]] == [
        "CPU 90 %", "CPU 70 %", "raw p95", "in flight 70 %", "KPA", "fleet",
    ]  # fmt: skip
    picture = ET.parse(svg).getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}polyline")) == 6


def test_several_services_make_one_report_and_one_picture(tmp_path: Path) -> None:
    png = tmp_path / "pods.PNG"
    words = ["--trace", "step", "--hours", "0.05", "--ours", "--plot", str(png)]
    text = run("--service", "devops", "--service", "aiml", *words)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## devops",
        "## aiml",
    ]
    assert run("--service", "all", *words[:-2]).count("| fleet |") == 4
    with Image.open(png) as picture:
        assert (picture.format, picture.size) == ("PNG", (1800, 2 * 520))
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert {(255, 255, 255), (0x88, 0x88, 0x88), (0xE1, 0xE8, 0xED)} <= colours


def test_a_prometheus_export_is_summed_over_its_series(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    series = [{"values": [[1000, "1"], [1002, "3"]]}, {"values": [[1000, "10"], [1002, "10"]]}]
    path.write_text(json.dumps({"data": {"result": series}}))
    assert replay(path).tolist() == [11, 12]
    path.write_text('{"status": "error"}')
    with pytest.raises(BadTrace, match="query_range"):
        replay(path)


def run(*words: str) -> str:
    result = CliRunner().invoke(main, ["simulate", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_same_seed_prints_the_same_table() -> None:
    words = ("--service", "aiml", "--ours", "--trace", "bursty", "--hours", "0.1", "--seeds", "2")
    assert run(*words) == run(*words)
    assert run(*words) != run(*words, "--seed", "5")


def test_faults_and_zero_reach_the_simulation() -> None:
    words = ("--service", "aiml", "--ours", "--trace", "step", "--hours", "0.2")
    calm = run(*words)
    for fault in (
        ("--brownout", "200-500"),
        ("--outage", "170-500"),
        ("--stale", "170-500"),
        ("--full-nodes", "170-500"),
        ("--rollout", "300"),
        ("--connections", "4"),
    ):
        assert run(*words, *fault) != calm
    assert "| fleet, to zero |" in run(*words, "--to-zero")
    wrong = CliRunner().invoke(main, ["simulate", "--outage", "soon"])
    assert "expected two seconds of the trace" in wrong.output


def test_tuning_finds_a_cheaper_policy_that_keeps_the_target() -> None:
    words = ("--service", "aiml", "--trace", "diurnal", "--hours", "0.1", "--rate", "60")
    text = run(*words, "--tune", "--target", "95")
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()[2:4]]
    assert [row[1] for row in rows] == ["as it is", "tuned"]
    assert float(rows[1][5]) < float(rows[0][5])
    assert float(rows[1][2].rstrip("%")) >= 95
    proposal = yaml.safe_load(text[text.index("floor:") :])
    assert set(proposal) == {"floor", "demand", "down"}


def test_a_target_that_nothing_reaches_is_said() -> None:
    words = ("--service", "aiml", "--trace", "step", "--hours", "0.02", "--rate", "50")
    assert "nothing reaches the target" in run(*words, "--tune", "--target", "100.1")


def test_unknown_traces_and_services_are_refused_with_a_list() -> None:
    trace = CliRunner().invoke(main, ["simulate", "--trace", "square"])
    assert "there are: diurnal, step, spike, bursty" in trace.output
    service = CliRunner().invoke(main, ["simulate", "--service", "mail"])
    assert "the policy has: gateway, data, devops, aiml" in service.output
