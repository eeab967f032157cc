from __future__ import annotations

import pytest

from fleet_common.errors import NotFound, PermissionDenied
from fleet_common.testing import granted
from fleet_devops.reach import Reach


def test_repositories_match_in_any_case_as_on_github() -> None:
    reach = Reach(("Acme/*", "other/one"), ())

    assert str(reach.repository(granted(), "acme", "App")) == "acme/App"
    assert str(reach.repository(granted(), "other", "one")) == "other/one"
    with pytest.raises(NotFound):
        reach.repository(granted(), "other", "two")


def test_namespaces_match_by_glob() -> None:
    reach = Reach((), ("team-a-*",))

    assert reach.namespace(granted(), "team-a-prod").name == "team-a-prod"
    with pytest.raises(NotFound):
        reach.namespace(granted(), "team-b")


def test_the_whole_cluster_needs_every_namespace() -> None:
    assert Reach((), ("*",)).namespace(granted(), None).name is None
    with pytest.raises(NotFound):
        Reach((), ("team-a", "team-b")).namespace(granted(), None)


def test_metrics_need_every_namespace() -> None:
    Reach((), ("*",)).metrics(granted())
    with pytest.raises(PermissionDenied):
        Reach((), ("team-a",)).metrics(granted())


def test_a_caller_reaches_no_further_than_both_the_service_and_the_policy() -> None:
    reach = Reach(("acme/*",), ("*",))
    some = granted(repositories=["acme/site", "other/*"], namespaces=["shop-*"])

    assert str(reach.repository(some, "acme", "site")) == "acme/site"
    assert reach.namespace(some, "shop-eu").name == "shop-eu"
    for owner, name in (("acme", "payroll"), ("other", "one")):
        with pytest.raises(NotFound):
            reach.repository(some, owner, name)
    for outside in ("kube-system", None):
        with pytest.raises(NotFound):
            reach.namespace(some, outside)
    with pytest.raises(PermissionDenied):
        reach.metrics(some)
