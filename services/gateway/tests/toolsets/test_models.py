from __future__ import annotations

import pytest

from fleet_common.errors import InvalidInput
from fleet_gateway.toolsets.models import of_query


def test_without_a_query_everything_but_the_two_search_tools_is_listed() -> None:
    everything = of_query(b"")
    assert everything.lists("crm_get")
    assert everything.lists("fleet_status")
    assert not everything.lists("fleet_find_tools")


def test_globs_narrow_what_is_listed_and_what_is_callable() -> None:
    some = of_query(b"tools=crm_*,rag_search&tools=gh_get_pr")
    for tool in ("crm_get", "rag_search", "gh_get_pr", "fleet_status"):
        assert some.lists(tool)
        assert some.has(tool)
    for tool in ("rag_ingest", "crm", "k8s_get"):
        assert not some.lists(tool)
        assert not some.has(tool)


def test_in_search_mode_only_the_fleets_own_tools_are_listed_and_globs_bound_what_is_found() -> (
    None
):
    search = of_query(b"mode=search&tools=crm_*")
    assert search.lists("fleet_find_tools")
    assert search.lists("fleet_whoami")
    assert not search.lists("crm_get")
    assert search.has("crm_get")
    assert not search.has("rag_search")


@pytest.mark.parametrize(
    "query",
    [b"tools=crm[a-z]", b"tools=CRM_*", b"mode=all", b"tools=" + b",".join([b"a"] * 33)],
)
def test_what_is_no_toolset_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidInput):
        of_query(query)
