from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet_autoscale.__main__ import main
from fleet_autoscale.hpa import Rate
from fleet_autoscale.policy import SURGE, BadPolicy, load

SERVICE = """
databases: {{ postgres: {{ connections: {connections}, reserved: 10 }} }}
services:
  data: &data
    {{ measured: {{ service_s: 0.04, cpu_s: {cpu_s}, start_s: {start_s}, idle_mib: 100, call_mib: 1 }},
      slots: 16, queue: {queue}, slo_s: {slo_s}, floor: 2, ceiling: 40, idle_s: 300,
      objectives: {{ available: 0.999, fast: 0.99 }},
      pool: {{ database: {database}, size: 9 }},
      demand: {{ utilization: 0.7, drain_s: 15, slowdown: 1.25 }},
      up: {{ window_s: 0, percent: 400, pods: 8, period_s: 15 }},
      down: {{ window_s: 180, percent: 50, period_s: 60 }} }}
  other: {{ <<: *data, idle_s: null, worker: {{ tasks: 4, ceiling: {workers} }} }}
"""
VALUES: dict[str, object] = {
    "connections": 200,
    "queue": 48,
    "slo_s": 0.25,
    "database": "postgres",
    "cpu_s": 0.001,
    "start_s": 8,
    "workers": 2,
}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(SERVICE.format(**VALUES | changes))
    return path


def test_the_fleets_own_policy_never_opens_more_connections_than_its_database_has() -> None:
    policy = load()
    assert set(policy.services) == {"gateway", "data", "devops", "aiml"}
    for name, database in policy.databases.items():
        opened = sum(
            policy.connections(service)
            for service, each in policy.services.items()
            if each.pool and each.pool.database == name
        )
        assert 0 < opened <= database.connections - database.reserved


def test_services_that_share_a_database_share_its_connections(tmp_path: Path) -> None:
    policy = load(written(tmp_path))
    # 200 connections less 10 reserved, halved, 9 a pod: 10 pods, a quarter of them for a rolling update
    assert policy.maximum("data") == 8
    # and three for two workers, of which one may be replaced
    assert policy.maximum("other") == 5
    assert policy.connections("data") == 8 * SURGE * 9
    assert policy.connections("data") + policy.connections("other") <= 190


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"connections": 50}, r"services\.data: the database allows 1 pods, the floor is 2"),
        ({"workers": 8}, r"services\.other: the database allows 0 pods"),
        ({"database": "oracle"}, "there is no database 'oracle'"),
        ({"queue": 400}, "the last in line waits longer than the objective"),
        ({"slo_s": 0.03}, "shorter than the mean time in a slot"),
        ({"cpu_s": 0.004}, r"slots: in use they take 1\.6 cores, and a pod is one process"),
        ({"start_s": 28}, "idle_s: the first pod comes later than the 30 s"),
        ({"queue": "many"}, r"services\.data\.queue"),
    ],
)
def test_a_policy_that_must_not_be_deployed_says_why(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BadPolicy, match=message):
        load(written(tmp_path, **changes))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadPolicy, match=r"absent\.yaml"):
        load(tmp_path / "absent.yaml")


def test_rates_and_windows_reach_the_behavior(tmp_path: Path) -> None:
    behavior = load(written(tmp_path)).services["data"].behavior()
    assert behavior.up.rates == (Rate("Percent", 400, 15), Rate("Pods", 8, 15))
    assert (behavior.down.window_s, behavior.down.rates) == (180, (Rate("Percent", 50, 60),))


def test_a_pod_is_sized_from_what_was_measured(tmp_path: Path) -> None:
    service = load(written(tmp_path)).services["data"]
    assert service.rate == pytest.approx(16 * 0.7 / 0.04)
    assert service.cpu_cores == pytest.approx(280 * 0.001)
    # 100 MiB and 64 calls, a quarter more, in steps of 32
    assert service.memory_mib == 224


def test_lint_prints_what_follows_for_the_pods(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["lint", "--policy", str(written(tmp_path))])
    assert "| data | 280 | 280m | 224 MiB | 0 to 8 | 90 |" in result.output
    assert "| other | 280 | 280m | 224 MiB | 2 to 5 |" in result.output
    broken = CliRunner().invoke(main, ["lint", "--policy", str(written(tmp_path, connections=20))])
    assert broken.exit_code == 2
    assert "allows 0 pods" in broken.output
