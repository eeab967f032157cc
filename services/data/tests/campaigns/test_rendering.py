"""Letters: what may stand in a template, what it costs, and what people get."""

from __future__ import annotations

import time

import pytest

from fleet_common.errors import InvalidInput
from fleet_data.campaigns.models import Letter
from fleet_data.campaigns.rendering import check, render, used

LINK = "https://example.com/unsubscribe/x"
LETTER = Letter(
    "News for {{ company | default('you', true) }}",
    "Hello {{ first_name | default('there', true) }},\n{% if city %}{{ city }} calls.{% else %}Hi.{% endif %}\n"
    "{{ unsubscribe_url }}",
    "<p>{{ first_name }} of {{ company }}</p><a href='{{ unsubscribe_url }}'>leave</a>",
)


def test_a_letter_says_what_is_known_and_nothing_else() -> None:
    check(LETTER)
    known = render(LETTER, {"first_name": "Ada", "company": "A & <b>", "city": "London"}, LINK)
    assert known.subject == "News for A & <b>"
    assert known.body == f"Hello Ada,\nLondon calls.\n{LINK}"
    assert known.html is not None
    assert known.html.startswith("<p>Ada of A &amp; &lt;b&gt;</p>")
    assert render(LETTER, {"first_name": None}, LINK).body.startswith("Hello there,\nHi.")


def test_a_value_cannot_break_out_of_its_place() -> None:
    evil = {"company": "x\r\nBcc: y@example.com", "first_name": "{{ 7*7 }}" + "z" * 5000}
    letter = render(LETTER, evil, LINK)
    assert letter.subject == "News for x Bcc: y@example.com"
    assert "{{ 7*7 }}" in letter.body
    assert len(letter.body) < 1200


def test_variables_without_a_default_are_named() -> None:
    assert used(LETTER) == {"first_name", "company"}
    assert used(Letter("{{ city|upper }}", "{% if title %}{{ title }}{% endif %}")) == {"city"}


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ first_name.__init__ }}",
        "{{ first_name['x'] }}",
        "{{ lipsum() }}",
        "{{ self }}",
        "{{ range(10) }}",
        "{% for a in first_name %}{{ a }}{% endfor %}",
        "{% set a = 1 %}",
        "{% macro a() %}{% endmacro %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ first_name ~ first_name }}",
        "{{ [1, 2] }}",
        "{{ first_name | center(1000000000) }}",
        "{{ first_name | attr('x') }}",
        "{{ first_name | map('x') }}",
        "{{ first_name is defined }}",
        "{{ phone }}",
        "{{ password }}",
        "{{ first_name",
        "{{ " + "not " * 5000 + "first_name }}",
        "{{ " + "(" * 5000 + "first_name" + ")" * 5000 + " }}",
        "{% if first_name %}" * 200 + "x" + "{% endif %}" * 200,
        "x" * 100_001,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_more_than_a_letter_is_refused_at_once(text: str) -> None:
    before = time.process_time()
    for letter in (
        Letter("s", text + "{{ unsubscribe_url }}"),
        Letter("s", "{{ unsubscribe_url }}", text + "{{ unsubscribe_url }}"),
    ):
        with pytest.raises(InvalidInput):
            check(letter)
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    "letter",
    [
        Letter("a\nb", "{{ unsubscribe_url }}"),
        Letter("", "{{ unsubscribe_url }}"),
        Letter("x" * 201, "{{ unsubscribe_url }}"),
        Letter("Hi", "no way out"),
        Letter("Hi", "{{ unsubscribe_url }}", "<p>no way out</p>"),
    ],
    ids=str,
)
def test_a_letter_needs_a_subject_of_one_line_and_a_way_out(letter: Letter) -> None:
    with pytest.raises(InvalidInput):
        check(letter)
