from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from fleet_common.digests import digest_of

KEY = b"k" * 32
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_the_order_of_arguments_does_not_matter(arguments: dict[str, object]) -> None:
    turned = dict(reversed(arguments.items()))
    assert digest_of(arguments) == digest_of(turned)
    assert digest_of(arguments, KEY) == digest_of(turned, KEY)


def test_a_plain_digest_is_one_a_caller_can_compute() -> None:
    digest = digest_of({"limit": 3, "city": "Zürich"})
    assert digest == hashlib.sha256(b'{"city":"Z\\u00fcrich","limit":3}').hexdigest()


def test_a_keyed_digest_cannot_be_found_by_trying() -> None:
    assert digest_of({"confirm": "yes"}, KEY) != digest_of({"confirm": "yes"})
    assert digest_of({"confirm": "yes"}, KEY) != digest_of({"confirm": "yes"}, KEY * 2)
