"""`python -m bench NAME` runs a benchmark and prints its table; `--write` puts it into README.md, all without NAME."""

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
        "--write", action="store_true", help="rewrite the tables in README.md; all without a name"
    )
    args = parser.parse_args()
    if args.write:
        for name in [args.name] if args.name else BENCHMARKS:
            write(name)
        return 0
    if args.name is None:
        parser.print_usage(sys.stderr)
        return 2
    report = BENCHMARKS[args.name]()
    print(json.dumps(report.to_dict(args.name)) if args.json else report.table)
    return 0


def write(name: str) -> None:
    """Replace a benchmark's table, between its two markers, by a fresh one."""
    report = BENCHMARKS[name]()
    before, opening, rest = README.read_text("utf-8").partition(f"<!-- {name} -->\n")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    table = f"{report.table}\n\n{report.machine}\n"
    README.write_text(f"{before}{opening}{table}{closing}{after}", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
