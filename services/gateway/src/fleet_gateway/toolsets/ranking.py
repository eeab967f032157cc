"""Which tools fit a few words: BM25 over name, title, parameters and description.

Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009), with the usual k1 = 1.2 and b = 0.75. A word
of the name counts three times, one of the title twice.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from fleet_gateway.lists.models import Row

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"[a-z0-9]+")


def ranked(query: str, tools: Sequence[Row]) -> list[Row]:
    """Return the tools that share a word with `query`, the best first."""
    documents = [_words_of(tool) for tool in tools]
    lengths = [document.total() for document in documents]
    mean = sum(lengths) / max(1, len(lengths))
    scores = [0.0] * len(tools)
    for word in set(_words(query)):
        holders = [place for place, document in enumerate(documents) if word in document]
        rarity = math.log(1 + (len(tools) - len(holders) + 0.5) / (len(holders) + 0.5))
        for place in holders:
            often = documents[place][word]
            size = _K1 * (1 - _B + _B * lengths[place] / mean)
            scores[place] += rarity * often * (_K1 + 1) / (often + size)
    order = sorted(range(len(tools)), key=lambda place: (-scores[place], tools[place].key))
    return [tools[place] for place in order if scores[place] > 0]


@lru_cache(maxsize=4096)
def _words_of(tool: Row) -> Counter[str]:
    content = tool.parsed()
    parameters = (content.get("inputSchema") or {}).get("properties") or {}
    return Counter(
        [
            *_words(tool.key) * 3,
            *_words(str(content.get("title") or "")) * 2,
            *_words(str(content.get("description") or "")),
            *_words(" ".join(parameters)),
        ]
    )


def _words(text: str) -> list[str]:
    return [_singular(word) for word in _WORD.findall(text.lower())]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word
