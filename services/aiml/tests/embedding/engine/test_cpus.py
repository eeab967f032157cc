"""How many CPUs a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet_aiml.embedding.engine.cpus import usable_cpus

SEEN = len(os.sched_getaffinity(0))


def test_without_a_quota_it_is_what_the_process_sees(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == SEEN


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", SEEN), ("50000 100000", 1), ("9900000 100000", SEEN)]
)
def test_a_cgroup_v2_quota_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", SEEN), ("40000", 1)])
def test_a_cgroup_v1_quota_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == cpus
