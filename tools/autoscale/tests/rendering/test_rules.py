"""The recording rules, computed by Prometheus itself and compared with what was computed by hand.

One run of promtool for all claims: starting it costs more than a claim.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fleet_autoscale.policy import load
from fleet_autoscale.rendering import render

RULES = render(load())[Path("k8s/components/monitoring/rules/scaling.yaml")]
PROMTOOL = shutil.which("promtool")
promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    labels = {"namespace": "mcp-fleet", "job": "fleet", "instance": "a"} | labels
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def service(
    name: str, *, pods: int, slots: int, calls_s: float, seconds: float
) -> list[dict[str, str]]:
    """Return what `pods` pods of a service export that all take `seconds` a call."""
    found = []
    for pod in range(pods):
        own = {"service": name, "instance": str(pod)}
        step = 5 * calls_s / pods
        found += [
            series("mcp_admission_limit", f"{slots}x40", **own),
            series("mcp_admission_inflight", f"{calls_s * seconds / pods:g}x40", **own),
            series("mcp_requests_started_total", f"0+{step:g}x40", **own),
            series("mcp_service_seconds_sum", f"0+{step * seconds:g}x40", **own),
            series("mcp_service_seconds_count", f"0+{step:g}x40", **own),
            series("process_cpu_seconds_total", "0+1x40", instance=str(pod)),
            series("process_resident_memory_bytes", "100000000x40", instance=str(pod)),
        ]
        for bound in ("0.1", "0.25", "0.4", "1", "2", "3", "+Inf"):
            within = step if bound == "+Inf" or float(bound) >= seconds else 0.0
            found.append(
                series("mcp_request_duration_seconds_bucket", f"0+{within:g}x40", le=bound, **own)
            )
    return found


def waiting(name: str, calls: str) -> dict[str, str]:
    return series("mcp_admission_waiting", calls, service=name, instance="0")


def changed(found: list[dict[str, str]], part: str, values: str) -> list[dict[str, str]]:
    """Return the series with other values where their text has `part`."""
    return [each | {"values": values} if part in each["series"] else each for each in found]


def value(record: str, **labels: str) -> str:
    inside = ", ".join(f'{key}="{each}"' for key, each in labels.items())
    return f"sum(fleet:{record}{{{inside}}})"


@dataclass(frozen=True)
class Case:
    claim: str
    inputs: list[dict[str, str]]
    expected: dict[str, float | None]
    """By expression; None for no sample."""
    at: str = "2m"

    def group(self) -> dict[str, object]:
        cases = [
            {
                "expr": f"round({expr}, 0.001)",
                "eval_time": self.at,
                "exp_samples": [] if number is None else [{"labels": "{}", "value": number}],
            }
            for expr, number in self.expected.items()
        ]
        return {
            "name": self.claim,
            "interval": "5s",
            "input_series": self.inputs,
            "promql_expr_test": cases,
        }


DATA = service("data", pods=2, slots=16, calls_s=1000, seconds=0.04)
# A fifth of a core in each of two pods, of 0.85 a pod, in slots
CPU = 7.529
FEW = service("data", pods=2, slots=16, calls_s=100, seconds=0.04)
# The calls end within a second, in slots of 0.04 s: the rest was spent waiting.
LATE = changed(FEW, 'le="0.', "0x40")
FULL = changed(DATA, "resident", "500000000x40")
AIML = service("aiml", pods=2, slots=4, calls_s=2, seconds=0.1)
IDLE = changed(service("aiml", pods=1, slots=4, calls_s=0, seconds=0.1), "cpu", "0x40")
TASKS = [
    series("mcp_tasks_pending", "12x12 stale _x40", queue="data", instance=each) for each in "ab"
]
CASES = [
    Case(
        "demand is arrivals times service time, and what waits",
        [*DATA, waiting("data", "30x40")],
        {
            value("service_seconds", service="data"): 0.04,
            # 1000 x 0.04 / 0.72, and 30 x 0.04 / 15
            value("demand_slots", service="data"): 55.636,
            value("cpu_slots", service="data"): CPU,
            value("p95_pressure", service="data"): 0.38,
            value("required_slots", service="data"): 55.636,
        },
    ),
    Case(
        "a call that is retried is counted once: 250 of 1000 starts refused are 800 calls",
        [
            *DATA,
            waiting("data", "0x40"),
            series("mcp_admission_shed_total", "0+1250x40", service="data", reason="deadline"),
        ],
        {value("demand_slots", service="data"): 44.444},
    ),
    Case(
        "p95 adds a quarter when calls wait here",
        [*LATE, waiting("data", "3x40")],
        {
            value("p95_pressure", service="data"): 1.25,
            value("required_slots", service="data"): 40,
        },
    ),
    Case(
        "p95 counts for nothing when none wait",
        [*LATE, waiting("data", "0x40")],
        {
            value("p95_pressure", service="data"): 0,
            value("required_slots", service="data"): CPU,
        },
    ),
    Case(
        "a slow downstream asks for a quarter more and no pressure",
        [
            *service("data", pods=2, slots=16, calls_s=1000, seconds=0.3),
            waiting("data", "60x40"),
        ],
        {
            value("p95_pressure", service="data"): 0,
            # 0.05 s is believed of 0.3
            value("demand_slots", service="data"): 69.644,
        },
    ),
    Case(
        "scarce memory counts while calls explain it, and a worker's does not",
        [
            *FULL,
            waiting("data", "0x40"),
            series("mcp_admission_limit", "0x40", service="data", instance="worker"),
            series("process_resident_memory_bytes", "1x40", instance="worker"),
        ],
        {value("memory_pressure", service="data"): 1.25},
    ),
    Case(
        "scarce memory counts for nothing when few calls run: it leaks",
        [*changed(FULL, "inflight", "1x40"), waiting("data", "0x40")],
        {value("memory_pressure", service="data"): 0},
    ),
    Case(
        "without traffic nothing is needed, and without pods nothing is known",
        [
            *changed(service("data", pods=2, slots=16, calls_s=0, seconds=0.04), "cpu", "0x40"),
            waiting("data", "0x40"),
        ],
        {
            value("service_seconds", service="data"): 0.04,
            value("required_slots", service="data"): 0.0,
            value("required_slots", service="devops"): None,
        },
    ),
    Case(
        "60,000 tokens at 4,000 a second and pod, in 5 s: three pods of four slots",
        [
            *AIML,
            waiting("aiml", "0x40"),
            series("aiml_queue_tokens", "20000x40", service="aiml", engine="embed", instance="0"),
            series("aiml_queue_tokens", "40000x40", service="aiml", engine="embed", instance="1"),
        ],
        {
            value("engine_slots", service="aiml"): 12,
            value("required_slots", service="aiml"): 12,
        },
    ),
    Case(
        "what may go to zero keeps its last figure without pods",
        [
            each | {"values": each["values"].replace("x40", "x12 stale _x40")}
            for each in [*IDLE, waiting("aiml", "0x40")]
        ],
        {
            value("required_slots", service="aiml"): 0,
            value("demand_slots", service="aiml"): None,
        },
    ),
    Case(
        "a call that runs keeps an idle service from zero",
        [*changed(IDLE, "inflight", "1x40"), waiting("aiml", "0x40")],
        {value("required_slots", service="aiml"): 1},
    ),
    Case(
        "a pod that nobody calls uses some of the CPU and is not kept by it",
        [*changed(IDLE, "process_cpu", "0+0.05x40"), waiting("aiml", "0x40")],
        {value("cpu_slots", service="aiml"): 0.047, value("required_slots", service="aiml"): 0},
    ),
    Case("two processes read one queue", TASKS, {value("tasks_pending", queue="data"): 12}, "30s"),
    Case(
        "a queue that cannot be read keeps its length",
        TASKS,
        {value("tasks_pending", queue="data"): 12},
    ),
]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What promtool says against CASES; it runs here, where a busy machine costs no test its time."""
    folder = tmp_path_factory.mktemp("rules")
    text = yaml.safe_load(RULES)
    used = ("fleet-scaling-data", "fleet-scaling-aiml")
    groups = [each for each in text["groups"] if each["name"] in used]
    (folder / "rules.yaml").write_text(json.dumps({"groups": groups}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5s",
        "tests": [each.group() for each in CASES],
    }
    (folder / "test.yaml").write_text(json.dumps(test))
    return ran("test", "rules", str(folder / "test.yaml"))


@promtool
def test_prometheus_computes_what_was_computed_by_hand(complaints: str) -> None:
    assert not complaints


@promtool
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    assert not ran("check", "rules", str(tmp_path / "rules.yaml"))


def ran(*words: str) -> str:
    """Return what promtool complains about."""
    if PROMTOOL is None:
        return ""
    result = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)
    return result.stdout + result.stderr if result.returncode else ""
