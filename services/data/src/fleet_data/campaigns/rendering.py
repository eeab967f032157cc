"""Letters: Jinja templates of which nothing is allowed but text, variables, a few filters and `if`.

Without loops, calls, arithmetic and assignments a template costs no more than its own length, so neither time nor
size can run away. It is checked when it is written, by its syntax tree; the sandbox is the second wall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fleet_common.errors import InvalidInput
from fleet_data.campaigns.models import Letter

VARIABLES = {
    "first_name": "c.first_name",
    "last_name": "c.last_name",
    "title": "c.title",
    "city": "c.city",
    "country": "c.country",
    "email": "c.email",
    "company": "o.name",
    "industry": "o.industry",
}
"""What a letter may say, and the column it comes from: c is the contact, o its company."""

UNSUBSCRIBE = "unsubscribe_url"
FILTERS = ("default", "upper", "lower", "title", "capitalize", "trim")
_MOST = 100_000  # characters of a template
_MOST_SUBJECT = 200
_MOST_DEPTH = 40
_MOST_VALUE = 1_000  # characters of a value: a description somebody pasted is no name
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Filter,
    nodes.If,
    nodes.Compare,
    nodes.Operand,
    nodes.Not,
    nodes.And,
    nodes.Or,
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A letter to one person."""

    subject: str
    body: str
    html: str | None


def _environment(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(autoescape=autoescape, undefined=StrictUndefined)
    env.filters = {name: env.filters[name] for name in FILTERS}
    env.globals, env.tests = {}, {}
    return env


_TEXT, _HTML = _environment(autoescape=False), _environment(autoescape=True)


def check(letter: Letter) -> None:
    """Return when the letter can be sent to anybody.

    Raises:
        InvalidInput: a template is wrong; the text says where and what is allowed.
    """
    if len(letter.subject) > _MOST_SUBJECT or "\n" in letter.subject or "\r" in letter.subject:
        raise InvalidInput(f"subject: one line of at most {_MOST_SUBJECT} characters")
    for name, text in _parts(letter):
        _check(name, text)
        if name != "subject" and UNSUBSCRIBE not in _names(_tree(name, text)):
            raise InvalidInput(
                f"{name}: show {{{{ {UNSUBSCRIBE} }}}} somewhere, so that people can leave"
            )


def used(letter: Letter) -> frozenset[str]:
    """Return the variables that somewhere stand without a default, and outside the test of an `if`."""
    found: set[str] = set()
    for name, text in _parts(letter):
        tree = _tree(name, text)
        sheltered = {
            id(inner)
            for outer in (
                *(f for f in tree.find_all(nodes.Filter) if f.name == "default"),
                *tree.find_all(nodes.If),
            )
            for inner in outer.find_all(nodes.Name)
        }
        found |= {n.name for n in tree.find_all(nodes.Name) if id(n) not in sheltered}
    return frozenset(found & VARIABLES.keys())


def render(letter: Letter, facts: Mapping[str, str | None], unsubscribe_url: str) -> Rendered:
    """Return the letter to one person; what is not known of them is empty, which `default(…, true)` replaces."""
    values = {name: (facts.get(name) or "")[:_MOST_VALUE] for name in VARIABLES}
    values[UNSUBSCRIBE] = unsubscribe_url
    subject = " ".join(_compiled("subject", letter.subject).render(values).split())
    html = None if letter.html is None else _compiled("html", letter.html).render(values)
    return Rendered(subject, _compiled("body", letter.body).render(values), html)


def _parts(letter: Letter) -> list[tuple[str, str]]:
    parts = [("subject", letter.subject), ("body", letter.body), ("html", letter.html)]
    return [(name, text) for name, text in parts if text is not None]


def _check(name: str, text: str) -> None:
    if not text.strip() or len(text) > _MOST:
        raise InvalidInput(f"{name}: 1 to {_MOST} characters")
    tree = _tree(name, text)
    for node in _every(name, tree):
        if not isinstance(node, _ALLOWED):
            raise InvalidInput(
                f"{name}, line {node.lineno}: {type(node).__name__.lower()} is not allowed in a letter",
                hint="Use text, {{ variable }}, {% if variable %} and filters",
            )
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise InvalidInput(
                f"{name}: no filter {node.name!r}", hint=f"Filters: {', '.join(FILTERS)}"
            )
    if unknown := sorted(_names(tree) - VARIABLES.keys() - {UNSUBSCRIBE}):
        raise InvalidInput(
            f"{name}: no variable {unknown[0][:60]!r}",
            hint=f"Variables: {', '.join((*VARIABLES, UNSUBSCRIBE))}",
        )


def _tree(name: str, text: str) -> nodes.Template:
    try:
        return _of(name).parse(text)
    except TemplateSyntaxError as exc:
        raise InvalidInput(f"{name}, line {exc.lineno}: {exc.message}") from exc
    except RecursionError as exc:
        raise InvalidInput(f"{name}: nested too deeply") from exc


def _every(name: str, tree: nodes.Template) -> list[nodes.Node]:
    """Return all nodes; without recursion, which is what a deep tree would be for."""
    found: list[nodes.Node] = []
    level: list[nodes.Node] = [tree]
    for _ in range(_MOST_DEPTH):
        found += level
        level = [child for node in level for child in node.iter_child_nodes()]
    if level:
        raise InvalidInput(f"{name}: nested too deeply")
    return found


def _names(tree: nodes.Template) -> set[str]:
    return {node.name for node in tree.find_all(nodes.Name)}


def _of(name: str) -> ImmutableSandboxedEnvironment:
    return _HTML if name == "html" else _TEXT


@lru_cache(maxsize=64)
def _compiled(name: str, text: str) -> Template:
    return _of(name).from_string(text)
