"""The second line where the first is missing: refusing text that names what its role should not be able to use.

A function runs in a query only when the text has its name, whatever notation it is called by: an operator or a cast
leads to none of them. So where the right to execute one could not be revoked, text with that word in it is refused,
even inside a literal or a comment. No grammar is needed, and none is guessed: only `U&"…"`, which can spell a name
with other letters, is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from fleet_common.errors import PermissionDenied

_SPELT_OUT = re.compile(r'u&"', re.IGNORECASE)
_LETTER, _REST = r"a-z_\u0080-\U0010ffff", r"a-z0-9_$\u0080-\U0010ffff"


def refuse_named(sql: str, names: Collection[str]) -> None:
    """Return when `sql` names none of `names`.

    Raises:
        PermissionDenied: it does, or could.
    """
    if not names:
        return
    if _SPELT_OUT.search(sql):
        raise PermissionDenied('identifiers written as U&"…" are refused on this database')
    if found := _pattern(frozenset(names)).search(sql.lower()):
        raise PermissionDenied(
            f"{found[0]} must not be used, and this database does not forbid it by itself",
            hint="The word is refused even inside text and comments; bind such text as a parameter",
        )


@lru_cache(maxsize=16)
def _pattern(names: frozenset[str]) -> re.Pattern[str]:
    """Return what finds any of the names as a word.

    Before PostgreSQL 15 an identifier may follow a number directly, so a digit does not belong to the word on its left.
    """
    return re.compile(f"(?<![{_LETTER}])(?:{'|'.join(sorted(names))})(?![{_REST}])")
