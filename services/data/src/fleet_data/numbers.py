"""How a numeric appears in JSON: one form, whether it comes from the database or from a caller."""

from __future__ import annotations

_MOST = 15  # digits that a double holds exactly


def json_number(text: str) -> int | float | str:
    """Return a numeric as a JSON number when that is exact, as its text otherwise."""
    if not text.lstrip("-").replace(".", "", 1).isdigit() or len(text) > _MOST:
        return text
    number = float(text)
    return int(number) if number.is_integer() else number
