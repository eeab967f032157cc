"""Each alert fires when it should and stays quiet when it should, as Prometheus itself finds."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_autoscale.policy import load
from fleet_autoscale.rendering import render
from fleet_autoscale.rendering.alerts import RUNBOOKS
from fleet_autoscale.rendering.objectives import WINDOWS

ROOT = Path(__file__).parents[4]
FILE = Path("k8s/components/monitoring/rules/alerts.yaml")
GROUPS: list[dict[str, Any]] = yaml.safe_load(render(load())[FILE])["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
CONSTANTS = [each for each in GROUPS[0]["rules"] if each["expr"].startswith("vector(")]
PROMTOOL = shutil.which("promtool")
promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)

Series = dict[str, str]  # by what is exported: values, as promtool writes them
MINUTES = 70
NAMESPACE = 'namespace="mcp-fleet"'


@dataclass(frozen=True)
class Case:
    """An alert, and what makes it fire and what does not.

    Attributes:
        quiet: laid over `fires`.
        fired: severities of what fires, by service.
    """

    alert: str
    fires: Series
    quiet: Series
    fired: dict[str, str] = field(default_factory=lambda: {"data": "warning"})


@dataclass(frozen=True)
class Claim:
    """What must fire in a namespace of its own, so that promtool evaluates all claims at once."""

    alert: str
    given: Series
    fired: tuple[str, ...]
    """Labels, as promtool writes them."""

    def series(self, namespace: str) -> list[dict[str, str]]:
        return [
            {"series": name.replace(NAMESPACE, f'namespace="{namespace}"'), "values": values}
            for name, values in self.given.items()
        ]

    def test(self, namespace: str, at: str) -> dict[str, object]:
        which = f'alertname="{self.alert}", alertstate="firing", namespace="{namespace}"'
        return {
            "expr": f"count by (service, severity, window) (ALERTS{{{which}}})",
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": 1} for labels in self.fired],
        }


def together(claims: Sequence[Claim], interval: str, at: str) -> dict[str, object]:
    """Return one test of promtool for all claims."""
    named = [(f"{claim.alert}-{number}", claim) for number, claim in enumerate(claims)]
    return {
        "interval": interval,
        "input_series": [each for name, claim in named for each in claim.series(name)],
        "promql_expr_test": [claim.test(name, at) for name, claim in named],
    }


def always(number: float) -> str:
    return f"{number:g}x{MINUTES}"


def each_minute(step: float) -> str:
    return f"0+{step:g}x{MINUTES}"


def selector(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def pod(name: str, **labels: str) -> str:
    own = {"namespace": "mcp-fleet", "service": "data", "instance": "a"} | labels
    return name + selector(own)


def recorded(name: str, **labels: str) -> str:
    own = {"namespace": "mcp-fleet", "service": "data"} | labels
    return f"fleet:{name}{selector(own)}"


def of_gateway(name: str) -> str:
    return pod(name, service="gateway", dep="data")


HPA = f'{NAMESPACE}, horizontalpodautoscaler="keda-hpa-data-worker"'
CASES = [
    Case(
        "ServiceDown",
        {pod("mcp_admission_limit"): f"16x50 stale _x{MINUTES}"},
        {pod("mcp_admission_limit"): always(16)},
        {"data": "critical"},
    ),
    Case(
        "ServiceDown",  # only workers are left, which have no slots; and a service that is not needed
        {
            pod("mcp_admission_limit"): f"16x50 stale _x{MINUTES}",
            pod("mcp_admission_limit", instance="worker"): always(0),
        },
        {recorded("required_slots"): always(0)},
        {"data": "critical"},
    ),
    Case(
        "TargetDown",
        {pod("up", job="mcp-fleet"): always(0)},
        {pod("up", job="mcp-fleet"): always(1)},
    ),
    Case(
        "DependencyAway",
        {pod("mcp_check_ok", check="database", instance=each): always(0) for each in "ab"},
        {pod("mcp_check_ok", check="database"): always(1)},
        {"data": "critical"},
    ),
    Case(
        "AuditFailing",
        {
            pod("mcp_check_ok", check="audit"): always(0),
            pod("mcp_check_ok", check="audit", instance="b"): always(1),
        },
        {pod("mcp_check_ok", check="audit"): always(1)},
        {"data": "critical"},
    ),
    Case(
        "BreakerOpen",
        {pod("mcp_breaker_open", dep="github"): "1 0 " * 45},
        {pod("mcp_breaker_open", dep="github"): f"1x30 0x{MINUTES}"},
    ),
    Case("LimitsLocal", {pod("mcp_limits_local"): always(1)}, {pod("mcp_limits_local"): always(0)}),
    Case(
        "IssuerKeysStale",
        {pod("mcp_issuer_keys_current"): always(0)},
        {pod("mcp_issuer_keys_current"): f"0x55 1x{MINUTES}"},
    ),
    Case(
        "PodsRestarting",
        {pod("kube_pod_container_status_restarts_total", container="data"): "0x50 1+1x40"},
        {pod("kube_pod_container_status_restarts_total", container="data"): "0x50 1x40"},
    ),
    Case(
        "CallsShed",
        {
            pod("mcp_requests_started_total"): each_minute(600),
            pod("mcp_admission_shed_total", reason="deadline"): each_minute(40),
        },
        {pod("mcp_admission_shed_total", reason="deadline"): each_minute(20)},
    ),
    Case(
        "QueueLong",
        {pod("mcp_admission_waiting"): always(20), pod("mcp_admission_limit"): always(16)},
        {pod("mcp_admission_waiting"): always(12)},
    ),
    Case(
        "CallsSlow",
        {
            pod("mcp_request_duration_seconds_bucket", le="0.25"): each_minute(90),
            pod("mcp_request_duration_seconds_bucket", le="+Inf"): each_minute(100),
            pod("mcp_request_duration_seconds_bucket", le="0.4"): each_minute(100),
        },
        {pod("mcp_request_duration_seconds_bucket", le="0.25"): each_minute(96)},
    ),
    Case(
        "DemandUnmet",
        {recorded("required_slots"): always(64), recorded("present_slots"): always(32)},
        {recorded("present_slots"): always(60)},
        {"data": "critical"},
    ),
    Case(
        "ScaledToMaximum",
        {
            f"kube_horizontalpodautoscaler_status_current_replicas{{{HPA}}}": always(8),
            f"kube_horizontalpodautoscaler_spec_max_replicas{{{HPA}}}": always(8),
        },
        {f"kube_horizontalpodautoscaler_status_current_replicas{{{HPA}}}": always(7)},
    ),
    Case(
        "PoolSaturated",
        {
            pod("data_pool_in_use", role="reader"): always(4),
            pod("data_pool_size", role="reader"): always(4),
        },
        {pod("data_pool_in_use", role="reader"): always(3)},
    ),
    Case(
        "ModelBehind",
        {pod("aiml_queue_oldest_seconds", service="aiml", engine="embed"): always(9)},
        {pod("aiml_queue_oldest_seconds", service="aiml", engine="embed"): always(1)},
        {"aiml": "warning"},
    ),
    Case(
        "TasksWaiting",
        {pod("mcp_tasks_oldest_seconds", queue="data"): each_minute(60)},
        {pod("mcp_tasks_oldest_seconds", queue="data"): always(20)},
    ),
    Case(
        "JobsStuck",
        {pod("data_jobs_pending", kind="export"): always(3)},
        {pod("data_jobs_pending", kind="export"): "3x40 2x40"},
    ),
    Case(
        "ApprovalsUnanswered",
        {
            pod("mcp_approvals_total", decision="asked"): "0x40 5x40",
            pod("mcp_approvals_total", decision="approve"): always(7),
        },
        {pod("mcp_approvals_total", decision="approve"): "7x45 8x40"},
    ),
    Case(
        "SwitchedOff",
        {pod("mcp_switched_off"): always(2)},
        {pod("mcp_switched_off"): always(0)},
        {"gateway": "warning"},
    ),
    Case(
        "CallsHeld",
        {of_gateway("mcp_gateway_held"): always(3)},
        {of_gateway("mcp_gateway_held"): "0 3 " * 45},
        {"data": "critical"},
    ),
    Case(
        "ToolsHeldBack",
        {of_gateway("mcp_gateway_tools_held"): always(1)},
        {of_gateway("mcp_gateway_tools_held"): always(0)},
    ),
    Case(
        "ClusterUnseen",
        {pod("mcp_gateway_cluster_current", service="gateway", kind="services"): always(0)},
        {pod("mcp_gateway_cluster_current", service="gateway", kind="services"): always(1)},
        {"gateway": "warning"},
    ),
]


def claims(case: Case) -> list[Claim]:
    fired = tuple(f'{{service="{name}", severity="{how}"}}' for name, how in case.fired.items())
    return [
        Claim(case.alert, case.fires, fired),
        Claim(case.alert, case.fires | case.quiet, ()),
    ]


def burns(alert: str, slo: str, budget: float) -> list[Claim]:
    """Return, for each pair of windows: it fires, and is quiet when the long one or the short one is."""
    found = []
    for rate, long, short, severity in (
        (14.4, "1h", "5m", "critical"),
        (6.0, "6h", "30m", "critical"),
        (3.0, "1d", "2h", "warning"),
        (1.0, "3d", "6h", "warning"),
    ):
        over, under = rate * budget * 1.01, rate * budget * 0.99
        labels = f'{{service="data", severity="{severity}", window="{long}"}}'
        for of_long, of_short, fired in (
            (over, over, (labels,)),
            (over, under, ()),
            (under, over, ()),
        ):
            shares = dict.fromkeys(WINDOWS, 0.0) | {long: of_long, short: of_short}
            given = {
                recorded(f"slo_errors:{window}", slo=slo): always(share)
                for window, share in shares.items()
            }
            found.append(Claim(alert, given, fired))
    return found


# 1,000 calls a minute, of which one is shed, one fails and 20 are slow; a call that is refused by the policy is fine.
CALLS = {
    pod("mcp_requests_started_total"): each_minute(1000),
    pod("mcp_admission_shed_total", reason="deadline"): each_minute(1),
    pod("mcp_tool_calls_total", tool="crm_get", outcome="unavailable"): each_minute(1),
    pod("mcp_tool_calls_total", tool="crm_get", outcome="permission_denied"): each_minute(500),
    pod("mcp_request_duration_seconds_bucket", le="0.25"): each_minute(980),
    pod("mcp_request_duration_seconds_bucket", le="0.4"): each_minute(1000),
    pod("mcp_request_duration_seconds_count"): each_minute(1000),
    pod("mcp_requests_started_total", service="aiml"): f"0x50 1x{MINUTES}",
    pod("mcp_admission_shed_total", service="aiml", reason="deadline"): f"0x50 1x{MINUTES}",
}
RECORDED: dict[str, float | None] = {
    'round(fleet:slo_errors:1h{slo="available", service="data"}, 0.0001)': 0.002,
    'round(fleet:slo_errors:5m{slo="fast", service="data"}, 0.0001)': 0.02,
    # One call says nothing
    'fleet:slo_errors:1h{slo="available", service="aiml"}': None,
    'fleet:slo_budget{service="aiml", slo="fast"}': 0.03,
    'fleet:slo_seconds{service="devops"}': 2.0,
}


def recording() -> dict[str, object]:
    tests = [
        {
            "expr": f"sum({expr})",
            "eval_time": "60m",
            "exp_samples": [] if number is None else [{"labels": "{}", "value": number}],
        }
        for expr, number in RECORDED.items()
    ]
    given = [{"series": name, "values": text} for name, text in CALLS.items()]
    return {
        "name": "shares",
        "interval": "1m",
        "input_series": given,
        "promql_expr_test": tests,
    }


def complaints(folder: Path, name: str, groups: list[str], test: dict[str, object]) -> str:
    """Return what promtool says against the test, with these groups of rules and the constants."""
    if PROMTOOL is None:
        return ""
    # One group: promtool evaluates several in any order, and the constants must come first.
    kept = [rule for group in GROUPS if group["name"] in groups for rule in group["rules"]]
    one = {"name": "tested", "interval": test["interval"], "rules": [*CONSTANTS, *kept]}
    (folder / f"{name}-rules.json").write_text(json.dumps({"groups": [one]}))
    written = {
        "rule_files": [f"{name}-rules.json"],
        "evaluation_interval": test["interval"],
        "tests": [test],
    }
    (folder / f"{name}.json").write_text(json.dumps(written))
    words = [PROMTOOL, "test", "rules", str(folder / f"{name}.json")]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr if result.returncode else ""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What promtool says; it runs here, where a busy machine costs no test its time."""
    folder = tmp_path_factory.mktemp("alerts")
    held = [*burns("AvailabilityBurn", "available", 0.001), *burns("LatencyBurn", "fast", 0.01)]
    alerts = together([claim for case in CASES for claim in claims(case)], "1m", "60m")
    groups = ["fleet-services", "fleet-load", "fleet-work", "fleet-gateway"]
    return {
        "alerts": complaints(folder, "alerts", groups, alerts),
        "burns": complaints(folder, "burns", ["fleet-burn"], together(held, "10m", "5h")),
        "shares": complaints(folder, "shares", ["fleet-objectives"], recording()),
    }


def test_every_alert_has_a_case() -> None:
    assert {rule["alert"] for rule in ALERTS} == {case.alert for case in CASES} | {
        "AvailabilityBurn",
        "LatencyBurn",
    }


@promtool
def test_each_alert_fires_and_stays_quiet(said: dict[str, str]) -> None:
    assert not said["alerts"]


@promtool
def test_budgets_are_held_to_both_windows(said: dict[str, str]) -> None:
    assert not said["burns"]


@promtool
def test_shares_of_bad_calls_are_what_was_computed_by_hand(said: dict[str, str]) -> None:
    assert not said["shares"]


@pytest.mark.parametrize("rule", ALERTS, ids=[f"{e['alert']}-{e.get('for', 0)}" for e in ALERTS])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    page = rule["annotations"]["runbook_url"].removeprefix(f"{RUNBOOKS}/")
    assert page == f"{rule['alert']}.md"
    text = (ROOT / "docs/runbooks" / page).read_text("utf-8")
    assert text.startswith(f"# {rule['alert']}\n")
    for heading in ("## Users", "## Look", "## Do"):
        assert f"\n{heading}\n" in text


def test_no_runbook_is_without_an_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
    assert pages == {rule["alert"] for rule in ALERTS}
