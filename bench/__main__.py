"""`python -m bench NAME [--json]` runs one benchmark; `python -m bench --write` runs all and rewrites README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from bench import audit, bulk, calls, export, gateway, leads, lists, overload, simulate, sql
from bench.report import Report

BENCHMARKS: dict[str, Callable[[], Report]] = {
    "calls": calls.run,
    "gateway": gateway.run,
    "overload": overload.run,
    "audit": audit.run,
    "leads": leads.run,
    "export": export.run,
    "bulk": bulk.run,
    "sql": sql.run,
    "lists": lists.run,
    "scaling": simulate.run,
}
README = Path(__file__).parent / "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=list(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--write", action="store_true", help="run all, rewrite the tables in README.md"
    )
    args = parser.parse_args()
    if args.write:
        write_all()
        return 0
    if args.name is None:
        parser.print_usage(sys.stderr)
        return 2
    report = BENCHMARKS[args.name]()
    print(json.dumps(report.to_dict(args.name)) if args.json else report.table)
    return 0


def write_all() -> None:
    """Replace each benchmark's table, between its two markers, by a fresh one."""
    text = README.read_text("utf-8")
    for name, run in BENCHMARKS.items():
        report = run()
        before, opening, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{opening}{report.table}\n\n{report.machine}\n{closing}{after}"
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
