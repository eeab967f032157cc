"""Dashboards as Grafana reads them (schema version 39, Grafana 11 and newer), of rows of panels of equal width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from string import ascii_uppercase
from typing import Any, Literal

# Any: a dashboard's values are of every type.
Document = dict[str, Any]

_COLUMNS, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NAMESPACE = 'namespace=~"$namespace"'
"""The selector of the series that somebody looks at; a fleet without Kubernetes has none."""
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of Prometheus, and how a series of the answer is called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        unit: as Grafana names it: s, reqps, percentunit, bytes, short.
        note: what the title does not say.
        red: from this value on.
        stacked: the series are parts of a whole.
    """

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    note: str = ""
    red: float | None = None
    stacked: bool = False

    def document(self, number: int, place: Document) -> Document:
        """Return Grafana's panel."""
        steps: list[Document] = [{"color": "green", "value": None}]
        if self.red is not None:
            steps.append({"color": "red", "value": self.red})
        defaults = {
            "unit": self.unit,
            "min": 0,
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom": self._lines(),
        }
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.note,
            "datasource": _SOURCE,
            "gridPos": place,
            "targets": [
                {
                    "refId": letter,
                    "datasource": _SOURCE,
                    "expr": query.expr,
                    "legendFormat": query.legend,
                }
                for letter, query in zip(ascii_uppercase, self.queries, strict=False)
            ],
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": self._options(),
        }

    def _lines(self) -> Document:
        if self.kind == "stat":
            return {}
        style = "off" if self.red is None else "line"
        return {
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": style},
        }

    def _options(self) -> Document:
        if self.kind == "stat":
            return {
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "colorMode": "value",
                "graphMode": "area",
                "textMode": "value_and_name",
            }
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, under a title."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a viewer may choose: the values of a label."""

    name: str
    series: str

    def document(self) -> Document:
        """Return Grafana's variable."""
        query = f"label_values({self.series}, {self.name})"
        return {
            "name": self.name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": self.name},
            "refresh": 2,  # when the time range changes
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of rows.

    Attributes:
        uid: also the name of the file.
        variables: besides the data source and the namespace.
    """

    uid: str
    title: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    def document(self) -> Document:
        """Return what Grafana imports."""
        source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
        namespace = Variable("namespace", "mcp_admission_limit")
        variables = [each.document() for each in (namespace, *self.variables)]
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": ["mcp-fleet"],
            "schemaVersion": 39,
            "timezone": "browser",
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "editable": False,  # tools/autoscale/src/fleet_autoscale/dashboards makes it
            "graphTooltip": 1,
            "links": [_LINK],
            "templating": {"list": [source, *variables]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[Document]:
        numbers, top, found = count(1), 0, []
        for row in self.rows:
            line = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
            found.append(_row(next(numbers), row.title, line))
            width = _COLUMNS // len(row.panels)
            for column, panel in enumerate(row.panels):
                place = {"x": column * width, "y": top + 1, "w": width, "h": _HEIGHT}
                found.append(panel.document(next(numbers), place))
            top += 1 + _HEIGHT
        return found


_LINK = {
    "type": "dashboards",
    "title": "The fleet",
    "tags": ["mcp-fleet"],
    "asDropdown": True,
    "includeVars": True,
    "keepTime": True,
}


def _row(number: int, title: str, place: Document) -> Document:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "gridPos": place,
        "collapsed": False,
        "panels": [],
    }
