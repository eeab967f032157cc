"""Text that other people wrote, made safe to show a model: nothing invisible, nothing endless.

Invisible and bidirectional characters carry instructions a reviewer cannot see (Trojan Source, CVE-2021-42574;
"ASCII smuggling" in tag characters). They are removed and nothing is escaped, so that text which goes back
into a file or an issue is still what its author wrote.
"""

from __future__ import annotations

import re

_HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # controls, except tab and line ends
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"  # soft hyphen, fillers, Mongolian selectors
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidirectional marks, overrides, isolates
    "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb"  # fillers, variation selectors, byte order mark
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # tags and supplementary selectors
)
# Joiners and emoji selectors are text in Persian, Hindi and emoji: one may follow a visible character.
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"
_VISIBLE = f"[^\x00-\x7f{_HIDDEN}{_JOINERS}]"
_REMOVED = re.compile(
    f"[{_HIDDEN}]|(?<!{_VISIBLE})[\u200c\ufe0e\ufe0f]|(?<!{_VISIBLE})(?<!{_VISIBLE}\ufe0f)\u200d"
)


def visible(text: str) -> str:
    """Return `text` without the characters that a reader cannot see."""
    return text if text.isascii() and text.isprintable() else _REMOVED.sub("", text)


def clip(text: str, limit: int) -> str:
    """Return `text`, or its first `limit` characters and a word on how many are missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [cut: {len(text) - limit} more characters]"
