"""The words that demo records are made of; weights are relative."""

from __future__ import annotations

INDUSTRIES = (
    *("Software", "Manufacturing", "Logistics", "Healthcare", "Retail", "Energy", "Finance"),
    *("Education", "Construction", "Media", "Food", "Telecommunications"),
)
COUNTRIES = {"United States": 5, "Germany": 3, "United Kingdom": 3, "France": 2, "Netherlands": 2}
CITIES = {
    "United States": ("Austin", "Boston", "Chicago", "Denver", "Portland", "Seattle"),
    "Germany": ("Berlin", "Hamburg", "Köln", "Leipzig", "München"),
    "United Kingdom": ("Bristol", "Edinburgh", "Leeds", "London", "Manchester"),
    "France": ("Bordeaux", "Lille", "Lyon", "Nantes", "Paris"),
    "Netherlands": ("Amsterdam", "Eindhoven", "Rotterdam", "Utrecht"),
}
TITLES = (
    *("Chief Executive Officer", "Chief Financial Officer", "Chief Technology Officer"),
    *("Head of IT", "Head of Operations", "Head of Procurement", "IT Manager", "Plant Manager"),
    *("Project Manager", "Data Engineer", "Software Engineer", "Buyer", "Operations Analyst"),
)
LIFECYCLES = {"subscriber": 2, "lead": 4, "qualified": 2, "customer": 3, "former": 1}
LEAD_STATUSES = {"new": 35, "working": 30, "qualified": 15, "unqualified": 12, "converted": 8}
LEAD_SCORES = {
    "new": (15, 70),
    "working": (25, 80),
    "qualified": (55, 95),
    "unqualified": (2, 35),
    "converted": (65, 99),
}
LEAD_SOURCES = {"web": 35, "referral": 15, "event": 15, "outbound": 20, "partner": 8, "advert": 7}
PRODUCTS = (
    *("annual licence", "pilot project", "plant rollout", "data platform", "support contract"),
    *("seat expansion", "migration project", "renewal", "training package"),
)
VERBS = {
    "call": "Call about",
    "meeting": "Meeting on",
    "email": "Mail about",
    "visit": "Visited the page on",
}
TOPICS = (
    *("pricing", "the security questionnaire", "the rollout plan", "the contract draft"),
    *("integration with their ERP", "the pilot results", "next year's budget", "the renewal"),
    *("data residency", "the support level", "a product demo", "references in their industry"),
)
OUTCOMES = (
    "They want an offer by the end of the month.",
    "Budget is confirmed; the decision is with the board.",
    "Asked to come back after the quarter closes.",
    "Compared us with two competitors; price is not the issue.",
    "Needs a reference from the same industry.",
    "Legal is reading the contract.",
    "Good conversation; the technical team joins next time.",
    "No answer yet; try another contact.",
    "Wants to start with one site and grow from there.",
    "Concerned about the effort of the migration.",
)
REMARKS = (
    "Champion is the head of operations.",
    "Procurement decides, IT advises.",
    "Prefers calls in the morning.",
    "Was a customer of the former product.",
    "Reorganisation under way until spring.",
    "Very happy with the pilot.",
)
TODOS = ("Follow up on", "Prepare", "Send material on", "Ask about", "Clarify")
PAST_TASKS = {"done": 85, "open": 8, "cancelled": 7}
PRESENT_TASKS = {"done": 20, "open": 78, "cancelled": 2}
CONSENTS = {"granted": 80, "withdrawn": 12, "pending": 8}
CONSENT_SOURCES = ("web form", "trade fair", "contract")
SUPPRESSIONS = {"unsubscribed": 6, "bounced": 3, "complained": 1}
SEGMENTS = (
    (
        "Customers in Germany",
        "contact",
        (
            '{"all":[{"field":"lifecycle","op":"eq","value":"customer"},'
            '{"field":"country","op":"eq","value":"Germany"}]}'
        ),
    ),
    (
        "Newsletter",
        "contact",
        '{"field":"lifecycle","op":"in","value":["subscriber","lead","customer"]}',
    ),
    (
        "Hot leads",
        "lead",
        (
            '{"all":[{"field":"score","op":"gt","value":70},'
            '{"field":"status","op":"in","value":["new","working","qualified"]}]}'
        ),
    ),
)
