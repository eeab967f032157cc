"""Every PromQL expression of the repository: rules, alerts, autoscalers, dashboards.

`promql.py` lists them. `promql.py http://localhost:9090` asks a Prometheus each of them and says which find nothing;
alerts are asked without their thresholds.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import yaml

from packages import ROOT

K8S = ROOT / "k8s" / "components"
RULES = K8S / "monitoring" / "rules"
_COMPARISON = re.compile(r" (==|!=|>=|<=|>|<) (?!bool )")
_MATCHING = re.compile(r"^on \([a-z_, ]+\) ")
_CHOSEN = {"$__rate_interval": "1m", "$namespace": ".*", "$service": ".*", "$datasource": ""}
_VARIABLE = re.compile(r"label_values\((\w+), (\w+)\)")


def expressions() -> dict[str, str]:
    """Return them by where they stand."""
    return dict([*_recorded(), *_alerts(), *_scaled_objects(), *_autoscalers(), *_dashboards()])


def found(prometheus: httpx.Client, expr: str) -> int:
    """Return how many series an expression finds now.

    Raises:
        ValueError: Prometheus does not understand it.
    """
    answer = prometheus.post("/api/v1/query", data={"query": expr}).json()
    if answer["status"] != "success":
        raise ValueError(f"{answer['error']}: {expr}")
    return len(answer["data"]["result"])


def without_threshold(expr: str) -> Iterator[str]:
    """Return what an alert watches: each comparison says 0 or 1, and what silences it is asked by itself."""
    for part in expr.split(" unless "):
        yield _COMPARISON.sub(r" \1 bool ", _MATCHING.sub("", part))


def _groups() -> Iterator[dict[str, Any]]:
    for path in sorted(RULES.glob("*.yaml")):
        yield from yaml.safe_load(path.read_text("utf-8"))["groups"]


def _recorded() -> Iterator[tuple[str, str]]:
    for group in _groups():
        for rule in group["rules"]:
            if "record" in rule:
                at = ",".join(rule.get("labels", {}).values())
                yield f"{group['name']}: {rule['record']} {at}", rule["expr"]
                yield f"{group['name']}: {rule['record']} itself", rule["record"]


def _alerts() -> Iterator[tuple[str, str]]:
    for group in _groups():
        for rule in group["rules"]:
            for number, expr in enumerate(
                without_threshold(rule["expr"] if "alert" in rule else "")
            ):
                if expr:
                    yield f"{rule['alert']} {rule['labels'].get('window', '')} {number}", expr


def _scaled_objects() -> Iterator[tuple[str, str]]:
    for path in sorted((K8S / "autoscale-keda").glob("*/*scaledobject.yaml")):
        triggers = yaml.safe_load(path.read_text("utf-8"))["spec"]["triggers"]
        for number, trigger in enumerate(triggers):
            yield f"{path.parent.name}/{path.name} {number}", trigger["metadata"]["query"]


def _autoscalers() -> Iterator[tuple[str, str]]:
    """Return what prometheus-adapter makes of each metric of an HPA."""
    file = K8S / "autoscale-hpa" / "prometheus-adapter.yaml"
    rules = yaml.safe_load(file.read_text("utf-8"))["externalRules"]
    served = {rule["name"]["as"]: rule for rule in rules}
    for path in sorted((K8S / "autoscale-hpa").glob("*/*hpa.yaml")):
        for metric in yaml.safe_load(path.read_text("utf-8"))["spec"]["metrics"]:
            asked = metric["external"]["metric"]
            rule = served[asked["name"]]
            own = {**asked["selector"]["matchLabels"], "namespace": "mcp-fleet"}
            matchers = ",".join(f'{name}="{value}"' for name, value in own.items())
            query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"])
            yield f"{path.parent.name}/{path.name}", query.replace("<<.LabelMatchers>>", matchers)


def _dashboards() -> Iterator[tuple[str, str]]:
    for path in sorted((K8S / "monitoring" / "dashboards").glob("*.json")):
        page = json.loads(path.read_text("utf-8"))
        for panel in page["panels"]:
            for target in panel.get("targets", ()):
                where = f"{path.stem}: {panel['title']} {target['refId']}"
                yield where, _filled(target["expr"])
        for variable in page["templating"]["list"]:
            if variable["type"] == "query":
                series, label = _VARIABLE.fullmatch(variable["query"]["query"]).groups()  # type: ignore[union-attr] # None fails, too
                yield f"{path.stem}: ${label}", f'{series}{{{label}!=""}}'


def _filled(expr: str) -> str:
    for name, value in _CHOSEN.items():
        expr = expr.replace(name, value)
    return expr


def main(urls: list[str]) -> int:
    """List the expressions, or ask a Prometheus."""
    if not urls:
        print("\n".join(f"{where}\t{expr}" for where, expr in expressions().items()))
        return 0
    with httpx.Client(base_url=urls[0], timeout=30) as prometheus:
        empty = [where for where, expr in expressions().items() if not found(prometheus, expr)]
    print("\n".join(empty) or "all expressions find something")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
