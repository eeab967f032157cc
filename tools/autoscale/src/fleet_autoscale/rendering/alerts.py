"""Alerts: those of alerts.yaml and those on error budgets, each with its runbook, as a file and for the operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fleet_autoscale.policy import Policy
from fleet_autoscale.rendering import objectives
from fleet_autoscale.rendering.manifests import Document

SOURCE = Path(__file__).parents[1] / "alerts.yaml"
RUNBOOKS = "https://github.com/mcp-fleet/mcp-fleet/blob/main/docs/runbooks"

# Any: a rule file's values are of every type.
Groups = dict[str, list[dict[str, Any]]]


def groups(policy: Policy) -> Groups:
    """Return the rule file."""
    own: list[dict[str, Any]] = yaml.safe_load(SOURCE.read_text("utf-8"))["groups"]
    alerting = [objectives.alerts(), *own]
    for each in alerting:
        each["rules"] = [_with_runbook(rule) for rule in each["rules"]]
    return {"groups": [objectives.group(policy), *alerting]}


def manifest(policy: Policy) -> Document:
    """Return the same for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "fleet-alerts"},
        "spec": groups(policy),
    }


def _with_runbook(rule: dict[str, Any]) -> dict[str, Any]:
    runbook = {"runbook_url": f"{RUNBOOKS}/{rule['alert']}.md"}
    return {**rule, "annotations": {**rule["annotations"], **runbook}}
