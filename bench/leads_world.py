"""Run by leadforge's own interpreter: makes one world and prints what the CRM would know of each lead on a day.

    python leads_world.py SEED DAY > rows.json

Touches, sessions and sales activities are the activities of a CRM; an opportunity is a lead that was qualified on
the day it was opened. How an opportunity ended, and the column that leadforge leaks on purpose, are not read.
"""

import json
import sys
import tempfile
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from leadforge.api import Generator  # type: ignore[import-not-found]

RECIPE, LEADS = "b2b_saas_procurement_v1", 5000
LABEL = "converted_within_90_days"
TOUCHES = {"call": "calls", "email": "emails", "linkedin_message": "emails"}  # others: visits
ACTIVITIES = {"call": "calls", "email": "emails"}  # others: meetings
SOURCES = {"inbound_marketing": "web", "sdr_outbound": "outbound", "partner_referral": "partner"}
EMPLOYEES = {"200-499": 300, "500-999": 700, "1000-1999": 1500, "2000+": 3000}


def main(seed: int, day: int) -> None:
    world = Generator.from_recipe(
        RECIPE, seed=seed, exposure_mode="student_public", snapshot_day=day
    ).generate(n_leads=LEADS, difficulty="intermediate")
    with tempfile.TemporaryDirectory() as folder:
        world.save(folder)
        json.dump(rows(Path(folder), day), sys.stdout)


def rows(folder: Path, day: int) -> list[dict[str, Any]]:
    def records(name: str) -> list[dict[str, Any]]:
        table = pd.read_parquet(folder / "tables" / f"{name}.parquet")
        found: list[dict[str, Any]] = (
            table.astype(object).where(table.notna(), None).to_dict("records")
        )
        return found

    leads = {each["lead_id"]: each for each in records("leads")}
    born = {
        id_: date.fromisoformat(str(each["lead_created_at"])[:10]) for id_, each in leads.items()
    }

    def ago(lead: str, at: object) -> float:
        return float(day - (date.fromisoformat(str(at)[:10]) - born[lead]).days)

    events: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in records("touches"):
        kind = TOUCHES.get(each["touch_type"], "visits")
        events[each["lead_id"]][kind].append(ago(each["lead_id"], each["touch_timestamp"]))
    for each in records("sessions"):
        events[each["lead_id"]]["visits"].append(ago(each["lead_id"], each["session_timestamp"]))
    for each in records("sales_activities"):
        kind = ACTIVITIES.get(each["activity_type"], "meetings")
        events[each["lead_id"]][kind].append(ago(each["lead_id"], each["activity_timestamp"]))
    qualified = {
        each["lead_id"]: ago(each["lead_id"], each["created_at"])
        for each in records("opportunities")
    }
    contacts = {each["contact_id"]: each for each in records("contacts")}
    accounts = {each["account_id"]: each for each in records("accounts")}
    tasks = (folder / "tasks" / LABEL).glob("*.parquet")
    labels = pd.concat([pd.read_parquet(path) for path in sorted(tasks)]).set_index("lead_id")[
        LABEL
    ]
    return [
        {
            "row": row_of(lead, contacts[lead["contact_id"]], accounts[lead["account_id"]], day)
            | activity_of(events[id_])
            | status_of(qualified.get(id_)),
            "has_converted": bool(labels[id_]),
        }
        for id_, lead in sorted(leads.items())
    ]


def row_of(
    lead: dict[str, Any], contact: dict[str, Any], account: dict[str, Any], day: int
) -> dict[str, Any]:
    return {
        "id": lead["lead_id"],
        "age_days": float(day),
        "has_phone": False,
        "notes": 0,
        "tasks": 0,
        "source": SOURCES[lead["lead_source"]],
        "title": contact["job_title"],
        "country": account["region"],
        "industry": account["industry"],
        "employees": EMPLOYEES.get(account["employee_band"]),
        "mail_domain": "gmail.com" if contact["email_domain_type"] == "personal" else "a.example",
    }


def activity_of(events: dict[str, list[float]]) -> dict[str, Any]:
    facts: dict[str, Any] = {"recent": sum(days < 7 for each in events.values() for days in each)}
    for kind in ("calls", "meetings", "emails", "visits"):
        facts |= {kind: len(events[kind]), f"{kind}_days": min(events[kind], default=None)}
    return facts


def status_of(qualified_ago: float | None) -> dict[str, Any]:
    if qualified_ago is None or qualified_ago < 0:
        return {"status": "working", "status_days": None}
    return {"status": "qualified", "status_days": qualified_ago}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
