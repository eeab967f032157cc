from __future__ import annotations

from typing import Any

from fleet_data.query.plans import shortened


def node(kind: str, rows: float, cost: float, **more: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Plan Rows": rows, "Total Cost": cost, **more}


def test_plan_is_a_line_per_node_with_rounded_estimates() -> None:
    scan = node("Seq Scan", 123_456, 20_123.5, **{"Relation Name": "deals", "Filter": "(x = 1)"})
    plan = shortened(node("Sort", 123_456, 31_000.2, Plans=[scan], **{"Sort Key": ["a", "b"]}))
    assert plan.steps == [
        "Sort rows≈100000 cost≈30000; sort key a, b",
        "  Seq Scan on deals rows≈100000 cost≈20000; filter (x = 1)",
    ]
    assert (plan.rows, plan.cost) == (100_000, 30_000)
    assert plan.hints == [
        "returns about 100,000 rows: aggregate, filter or page, db_query cuts at 1,000",
        "sorts many rows: add LIMIT, or order by an indexed column",
        "reads all of deals: filter on an indexed column, or a smaller range",
    ]


def test_missing_join_condition_is_named() -> None:
    inputs = [node("Seq Scan", 1000, 10), node("Seq Scan", 1000, 10)]
    plan = shortened(node("Nested Loop", 1_000_000, 90_000, Plans=inputs))
    assert "a join condition may be missing" in plan.hints[1]


def test_long_plans_and_conditions_are_cut() -> None:
    children = [node("Result", 0.2, 0) for _ in range(50)]
    plan = shortened(node("Append", 5, 5, Plans=children, Filter="x" * 500))
    assert len(plan.steps) == 41
    assert plan.steps[-1] == "… and 11 more"
    assert len(plan.steps[0]) < 250
