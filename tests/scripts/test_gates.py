from __future__ import annotations

import pytest

import changed
import coverage_gate
import local_traces
from packages import package, packages


def test_a_change_of_one_service_touches_only_it() -> None:
    assert changed.touched(["services/data/src/fleet_data/pool.py"], packages()) == ["data"]


def test_a_change_of_libs_common_touches_all() -> None:
    everyone = [each.name for each in packages()]
    assert changed.touched(["libs/common/src/fleet_common/errors.py"], packages()) == everyone


def test_a_change_of_the_docs_touches_none() -> None:
    assert changed.touched(["docs/errors.md"], packages()) == []


@pytest.mark.parametrize(("covered", "passes"), [(84, False), (85, True)])
def test_a_service_must_reach_85_percent(covered: int, passes: bool) -> None:
    summary = {
        "covered_lines": covered,
        "num_statements": 100,
        "covered_branches": 0,
        "num_branches": 0,
    }
    files = {"services/data/src/fleet_data/pool.py": {"summary": summary}}
    assert coverage_gate.measure(files, package("data")).passes is passes


def test_an_unknown_package_names_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"there are: common, .*data"):
        package("nonsense")


@pytest.mark.parametrize(
    "text",
    [
        "see /home" + "/ada/notes",
        "pip install --index-url https" + "://packages.corp.example/simple x",
        "from wheels.corp.example today",
        "built in /builds/fleet now",
    ],
)
def test_what_names_one_machine_is_found(text: str) -> None:
    assert local_traces.traces(text, {"wheels.corp.example"}, "/builds/fleet")


@pytest.mark.parametrize(
    "text", ["https://pypi.org/simple", "/home/you/x", "/builds/fleet-of-ships"]
)
def test_what_works_everywhere_passes(text: str) -> None:
    assert not local_traces.traces(text, {"wheels.corp.example"}, "/builds/fleet")
