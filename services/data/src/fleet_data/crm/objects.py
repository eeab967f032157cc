"""The registry: every object and field of the CRM, declared once; tools, SQL and schemas follow it."""

from __future__ import annotations

from fleet_data.crm.models import FieldDef, ObjectDef, ObjectName

_ID = FieldDef("id", "id", "Id of the record.", writable=False, listed=True)
_SYSTEM = (
    FieldDef("version", "integer", "Grows with every change.", writable=False, listed=True),
    FieldDef("created_at", "timestamp", "When it was made.", writable=False),
    FieldDef("created_by", "text", "Who made it.", writable=False),
    FieldDef("updated_at", "timestamp", "When it last changed.", writable=False),
    FieldDef("updated_by", "text", "Who changed it last.", writable=False),
)
_OWNER = FieldDef("owner_id", "id", "User who looks after it; see crm.users.", refers_to="user")
_COMPANY = FieldDef("company_id", "id", "Company it belongs to.", refers_to="company", listed=True)
_CONTACT = FieldDef("contact_id", "id", "Person it is about.", refers_to="contact", listed=True)
_LINKS = (
    _CONTACT,
    _COMPANY,
    FieldDef("deal_id", "id", "Deal it is about.", refers_to="deal", listed=True),
    FieldDef("lead_id", "id", "Lead it is about.", refers_to="lead", listed=True),
    _OWNER,
)
_EMAIL = FieldDef(
    "email", "email", "Mail address, unique among live records.", listed=True, searched=True
)
_PHONE = FieldDef("phone", "phone", "Phone number, best with country code.")
_COUNTRY = FieldDef("country", "text", "Country.", listed=True)
_CITY = FieldDef("city", "text", "City.")
_DESCRIPTION = FieldDef("description", "text", "Free text.", free_text=True, most=10_000)
_ADDRESS = FieldDef(
    *("address", "email", "Mail address."),
    required=True,
    listed=True,
    searched=True,
    repeats="email",
)


def _body(*, required: bool = False) -> FieldDef:
    return FieldDef(
        "body", "text", "Free text.", required=required, free_text=True, searched=True, most=20_000
    )


def _object(
    name: ObjectName, table: str, about: str, *fields: FieldDef, match_on: tuple[str, ...] = ()
) -> ObjectDef:
    every = (_ID, *fields, *_SYSTEM)
    return ObjectDef(
        name,
        table,
        about,
        {f.name: f for f in every},
        match_on,
        is_extensible=name not in ("property", "link", "segment", "consent", "suppression"),
    )


OBJECTS: dict[str, ObjectDef] = {
    definition.name: definition
    for definition in (
        _object(
            "company",
            "companies",
            "An organisation: customer, prospect or partner.",
            FieldDef("name", required=True, listed=True, searched=True, about="Name."),
            FieldDef("domain", "domain", "Mail domain, unique.", listed=True, searched=True),
            FieldDef("industry", about="Industry.", listed=True),
            FieldDef("employees", "integer", "Number of employees.", listed=True),
            FieldDef("annual_revenue", "number", "Yearly revenue."),
            _COUNTRY,
            _CITY,
            FieldDef("website", "url", "Web address."),
            _PHONE,
            _OWNER,
            _DESCRIPTION,
            match_on=("domain",),
        ),
        _object(
            "contact",
            "contacts",
            "A person, usually at a company.",
            FieldDef("first_name", about="Given name.", listed=True, searched=True),
            FieldDef("last_name", about="Family name.", required=True, listed=True, searched=True),
            _EMAIL,
            _PHONE,
            FieldDef("title", about="Job title.", listed=True),
            _COMPANY,
            FieldDef(
                "lifecycle",
                "enum",
                "How far along.",
                default="lead",
                listed=True,
                choices=("subscriber", "lead", "qualified", "customer", "former"),
            ),
            _COUNTRY,
            _CITY,
            _OWNER,
            _DESCRIPTION,
            match_on=("email",),
        ),
        _object(
            "lead",
            "leads",
            "A person who may become a customer and is not qualified yet.",
            FieldDef("name", about="Full name.", required=True, listed=True, searched=True),
            _EMAIL,
            _PHONE,
            FieldDef("title", about="Job title."),
            FieldDef("company_name", about="Employer, as given.", listed=True, searched=True),
            _COUNTRY,
            FieldDef(
                "source",
                "enum",
                "Where it came from.",
                default="web",
                listed=True,
                choices=("web", "referral", "event", "outbound", "partner", "advert"),
            ),
            FieldDef(
                "status",
                "enum",
                "How far along.",
                default="new",
                listed=True,
                choices=("new", "working", "qualified", "unqualified", "converted"),
            ),
            FieldDef("score", "integer", "Likelihood to buy, 0 to 100.", listed=True),
            FieldDef("contact_id", "id", "Contact it became.", refers_to="contact"),
            _OWNER,
            _DESCRIPTION,
            match_on=("email",),
        ),
        _object(
            "deal",
            "deals",
            "A sales opportunity in a stage of a pipeline.",
            FieldDef("name", about="Name.", required=True, listed=True, searched=True),
            _COMPANY,
            _CONTACT,
            FieldDef("pipeline", about="Key of the pipeline.", default="sales"),
            FieldDef(
                "stage", about="Key of the stage; see crm.stages.", default="new", listed=True
            ),
            FieldDef(
                "status",
                "enum",
                "Follows the stage.",
                writable=False,
                listed=True,
                choices=("open", "won", "lost"),
            ),
            FieldDef("amount", "number", "Value in `currency`.", listed=True),
            FieldDef("currency", about="ISO 4217 code.", default="EUR", listed=True, most=3),
            FieldDef("expected_close", "date", "Expected day of the decision.", listed=True),
            FieldDef("stage_changed_at", "timestamp", "When it entered the stage.", writable=False),
            FieldDef("closed_at", "timestamp", "When it was won or lost.", writable=False),
            _OWNER,
            _DESCRIPTION,
        ),
        _object(
            "activity",
            "activities",
            "A call, meeting, mail or visit of the web site that happened.",
            FieldDef(
                "kind",
                "enum",
                "What it was.",
                required=True,
                listed=True,
                choices=("call", "meeting", "email", "visit"),
            ),
            FieldDef(
                "subject",
                about="One line.",
                required=True,
                listed=True,
                searched=True,
                free_text=True,
            ),
            _body(),
            FieldDef("occurred_at", "timestamp", "When it was.", required=True, listed=True),
            FieldDef("duration_min", "integer", "Length in minutes."),
            *_LINKS,
        ),
        _object("note", "notes", "A remark about a record.", _body(required=True), *_LINKS),
        _object(
            "task",
            "tasks",
            "Something somebody is to do.",
            FieldDef("title", about="One line.", required=True, listed=True, searched=True),
            _body(),
            FieldDef("due_at", "timestamp", "When it is due.", listed=True),
            FieldDef(
                "status",
                "enum",
                "How far along.",
                default="open",
                listed=True,
                choices=("open", "done", "cancelled"),
            ),
            FieldDef(
                "priority",
                "enum",
                "How urgent.",
                default="normal",
                listed=True,
                choices=("low", "normal", "high"),
            ),
            *_LINKS,
        ),
        _object(
            "link",
            "links",
            "A typed link from one record to another; crm_link makes and removes them.",
            FieldDef("from_object", about="Kind of the one.", writable=False, listed=True),
            FieldDef("from_id", "id", "Id of the one.", writable=False, listed=True),
            FieldDef("type", about="What it is to the other.", writable=False, listed=True),
            FieldDef("to_object", about="Kind of the other.", writable=False, listed=True),
            FieldDef("to_id", "id", "Id of the other.", writable=False, listed=True),
        ),
        _object(
            "property",
            "properties",
            "A field that you add to an object.",
            FieldDef(
                "object",
                "enum",
                "Object that gets the field.",
                required=True,
                fixed=True,
                listed=True,
                choices=("company", "contact", "lead", "deal", "activity", "note", "task"),
            ),
            FieldDef(
                "name",
                about="Name of the field: x_ and then letters, digits and _.",
                required=True,
                fixed=True,
                listed=True,
                searched=True,
                most=42,
            ),
            FieldDef(
                "kind",
                "enum",
                "What its values look like.",
                default="text",
                fixed=True,
                listed=True,
                choices=(
                    *("text", "number", "integer", "boolean", "date", "timestamp", "enum"),
                    *("email", "phone", "url"),
                ),
            ),
            FieldDef(
                "choices", about="Values of an enum, comma-separated.", listed=True, most=4000
            ),
            FieldDef("about", about="One line for whoever fills it in.", listed=True),
        ),
        _object(
            "segment",
            "segments",
            "A named selection of records: all that a filter finds, or a list of members.",
            FieldDef("name", about="Name, unique.", required=True, listed=True, searched=True),
            FieldDef(
                "object",
                "enum",
                "Kind of its records.",
                default="contact",
                fixed=True,
                listed=True,
                choices=("contact", "lead", "company", "deal"),
            ),
            FieldDef(
                "kind",
                "enum",
                "filter: whoever meets it now; static: a list.",
                default="filter",
                fixed=True,
                listed=True,
                choices=("filter", "static"),
            ),
            FieldDef("filter", "filter", "As crm_search takes it.", listed=True),
            _OWNER,
            _DESCRIPTION,
            match_on=("name",),
        ),
        _object(
            "consent",
            "consents",
            "What the owner of an address agreed to.",
            _ADDRESS,
            FieldDef("channel", "enum", "Channel.", default="email", choices=("email",)),
            FieldDef(
                "purpose", about="Such as marketing.", default="marketing", listed=True, most=40
            ),
            FieldDef(
                "state",
                "enum",
                "What was decided.",
                required=True,
                listed=True,
                choices=("pending", "granted", "withdrawn"),
            ),
            FieldDef("source", about="Where, such as web form.", listed=True),
            FieldDef("decided_at", "timestamp", "When.", required=True, listed=True),
            _DESCRIPTION,
        ),
        _object(
            "suppression",
            "suppressions",
            "An address that nobody may write to.",
            _ADDRESS,
            FieldDef("channel", "enum", "Channel.", default="email", choices=("email",)),
            FieldDef(
                "reason",
                "enum",
                "Why.",
                default="manual",
                listed=True,
                choices=("unsubscribed", "bounced", "complained", "manual"),
            ),
            _DESCRIPTION,
            match_on=("address",),
        ),
    )
}
"""Every object by name, in the order they are listed to callers."""
