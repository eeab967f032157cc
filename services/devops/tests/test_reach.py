from __future__ import annotations

import pytest

from fleet_common.errors import NotFound, PermissionDenied
from fleet_common.testing import viewer
from fleet_devops.reach import Reach


def test_repositories_match_in_any_case_as_on_github() -> None:
    reach = Reach(("Acme/*", "other/one"), ())

    assert str(reach.repository(viewer(), "acme", "App")) == "acme/App"
    assert str(reach.repository(viewer(), "other", "one")) == "other/one"
    with pytest.raises(NotFound):
        reach.repository(viewer(), "other", "two")


def test_namespaces_match_by_glob() -> None:
    reach = Reach((), ("team-a-*",))

    assert reach.namespace(viewer(), "team-a-prod").name == "team-a-prod"
    with pytest.raises(NotFound):
        reach.namespace(viewer(), "team-b")


def test_the_whole_cluster_needs_every_namespace() -> None:
    assert Reach((), ("*",)).namespace(viewer(), None).name is None
    with pytest.raises(NotFound):
        Reach((), ("team-a", "team-b")).namespace(viewer(), None)


def test_metrics_need_every_namespace() -> None:
    Reach((), ("*",)).metrics(viewer())
    with pytest.raises(PermissionDenied):
        Reach((), ("team-a",)).metrics(viewer())
