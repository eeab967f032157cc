"""The policy as files: recording rules, alerts, HPAs and their adapter's configuration, ScaledObjects, a schema."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from fleet_autoscale import dashboards
from fleet_autoscale.policy import Policy
from fleet_autoscale.rendering import alerts, hpa, keda, rules, sizing

__all__ = ["render", "stale", "write"]
_HEADER = "# Made from the scaling policy by `make render`; edit tools/autoscale/src/fleet_autoscale/policy.yaml.\n"
_HPA = Path("k8s/components/autoscale-hpa")
_KEDA = Path("k8s/components/autoscale-keda")
_OPERATOR = Path("k8s/components/autoscale-rules")
_RULES = Path("k8s/components/monitoring/rules/scaling.yaml")
_ALERTS = Path("k8s/components/monitoring/alerts.yaml")
_ALERT_RULES = Path("k8s/components/monitoring/rules/alerts.yaml")
_DASHBOARDS = Path("k8s/components/monitoring/dashboards")
_SIZING = Path("docs/scaling.md")
_MARKS = ("<!-- sizing -->\n", "<!-- /sizing -->")
_SCHEMA = Path("tools/autoscale/src/fleet_autoscale/policy.schema.json")


class _Dumper(yaml.SafeDumper):
    """Indents lists under their key, and never makes an anchor of what two places share."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - yaml's
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def render(policy: Policy) -> dict[Path, str]:
    """Return the text of every made file, by its path in the repository."""
    documents: dict[Path, object] = {
        _RULES: rules.groups(policy),
        _ALERT_RULES: alerts.groups(policy),
        _ALERTS: alerts.manifest(policy),
    }
    folders = {
        _HPA: hpa.files(policy),
        _KEDA: keda.files(policy),
        _OPERATOR: rules.files(policy),
    }
    for folder, made in folders.items():
        documents |= {folder / path: document for path, document in made.items()}
    texts = {path: _HEADER + _yaml(document) for path, document in documents.items()}
    pages = {_DASHBOARDS / path: page for path, page in dashboards.files(policy).items()}
    jsons = pages | {_SCHEMA: Policy.model_json_schema()}
    return texts | {
        path: json.dumps(each, indent=1 if path in pages else 2) + "\n"
        for path, each in jsons.items()
    }


def write(policy: Policy, root: Path) -> list[Path]:
    """Write what has changed below `root`, and return it."""
    changed = _changed(policy, root)
    for path, text in changed.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return list(changed)


def stale(policy: Policy, root: Path) -> list[Path]:
    """Return the made files below `root` that are not what the policy makes them."""
    return list(_changed(policy, root))


def _changed(policy: Policy, root: Path) -> dict[Path, str]:
    texts = _texts(policy, root)
    return {path: text for path, text in texts.items() if _read(root / path) != text}


def _texts(policy: Policy, root: Path) -> dict[Path, str]:
    """Return the made files, and the page that has a made table between two marks."""
    before, opening, rest = (_read(root / _SIZING) or "".join(_MARKS)).partition(_MARKS[0])
    _, closing, after = rest.partition(_MARKS[1])
    page = f"{before}{opening}{sizing.table(policy)}\n{closing}{after}"
    return render(policy) | {_SIZING: page}


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def _yaml(document: object) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
