"""Lists and objects as the service reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet_common.errors import InvalidInput, NotFound, UpstreamFailed
from fleet_common.testing import granted
from fleet_devops.cluster.client import KubeClient
from fleet_devops.cluster.service import Cluster, Listing
from fleet_devops.reach import Reach

if TYPE_CHECKING:
    from services.devops.tests.cluster.conftest import TableServer

CALLER = granted()


async def pods(
    cluster: Cluster,
    namespace: str | None = "team-a",
    *,
    kind: str = "pods",
    selector: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Listing:
    return await cluster.list_kind(
        CALLER,
        kind,
        namespace,
        selector=selector,
        field_selector=None,
        limit=limit,
        cursor=cursor,
    )


@pytest.mark.parametrize("kind", ["Pod", "pod", "pods", "po", "PODS"])
async def test_a_kind_goes_by_all_its_names(cluster: Cluster, kind: str) -> None:
    page = await pods(cluster, kind=kind)

    assert [row[0] for row in page.rows] == [f"pod-{n}" for n in range(5)]


async def test_a_list_asks_for_a_table_and_shows_the_columns_kubectl_shows(
    cluster: Cluster, api: TableServer
) -> None:
    page = await pods(cluster)

    assert page.columns == ["Name", "Status"]
    assert page.rows[0] == ["pod-0", "Running"]
    assert "as=Table;v=v1;g=meta.k8s.io" in list(api)[-1].headers["Accept"]
    assert list(api)[-1].params["includeObject"] == "None"


async def test_a_list_of_all_namespaces_names_each(cluster: Cluster) -> None:
    page = await pods(cluster, None)

    assert page.columns[0] == "Namespace"
    assert {row[0] for row in page.rows} == {"team-a", "team-b"}


async def test_a_label_selector_narrows_the_list(cluster: Cluster) -> None:
    page = await pods(cluster, selector="app=web")

    assert [row[0] for row in page.rows] == ["pod-1", "pod-3"]


async def test_cursors_lead_through_every_object_once(cluster: Cluster) -> None:
    page = await pods(cluster, limit=2)
    assert page.remaining == 3
    names = [row[0] for row in page.rows]
    while page.next_cursor:
        assert page.next_cursor.startswith("devops.")
        page = await pods(cluster, limit=2, cursor=page.next_cursor)
        names += [row[0] for row in page.rows]

    assert names == [f"pod-{n}" for n in range(5)]


async def test_a_cursor_does_not_open_another_namespace(cluster: Cluster) -> None:
    page = await pods(cluster, limit=2)

    with pytest.raises(InvalidInput, match="another question"):
        await pods(cluster, "team-b", limit=2, cursor=page.next_cursor)


async def test_a_server_without_tables_is_listed_by_name(
    cluster: Cluster, api: TableServer
) -> None:
    api.tables = False

    page = await pods(cluster)

    assert page.columns == ["Name", "Created At"]
    assert page.rows[0][0] == "pod-0"


async def test_a_custom_kind_is_found_by_discovery_once(cluster: Cluster, api: TableServer) -> None:
    for _ in range(2):
        page = await pods(cluster, kind="certificates.cert-manager.io")
        assert [row[0] for row in page.rows] == ["site"]

    asked = [request.url.path for request in api]
    assert asked.count("/apis/cert-manager.io") == 1


@pytest.mark.parametrize("kind", ["unicorns", "unicorns.example.com", "pods.cert-manager.io"])
async def test_an_unknown_kind_is_not_found(cluster: Cluster, kind: str) -> None:
    with pytest.raises(NotFound, match=f"^not_found: kind {kind} not found"):
        await pods(cluster, kind=kind)


async def test_a_kind_without_namespaces_takes_none(cluster: Cluster) -> None:
    page = await pods(cluster, None, kind="nodes")
    assert page.columns == ["Name", "Status"]

    with pytest.raises(InvalidInput, match="Node belongs to no namespace"):
        await pods(cluster, "team-a", kind="nodes")


async def test_an_object_comes_without_managed_fields(cluster: Cluster) -> None:
    found = await cluster.get_object(CALLER, "pod", "pod-0", "team-a")

    assert found["metadata"]["name"] == "pod-0"
    assert "managedFields" not in found["metadata"]
    assert found["metadata"]["annotations"] == {"team": "a"}


async def test_no_value_of_a_secret_leaves_the_service(cluster: Cluster) -> None:
    found = await cluster.get_object(CALLER, "secret", "login", "team-a")

    assert found["data"]["password"].startswith("hmac-sha256:")
    assert "aHVudGVyMg" not in repr(found)
    assert "hunter2" not in repr(found)


async def test_a_namespaced_object_needs_its_namespace(cluster: Cluster) -> None:
    with pytest.raises(InvalidInput, match="Pod needs a namespace"):
        await cluster.get_object(CALLER, "pod", "pod-0", None)
    with pytest.raises(InvalidInput, match="Node belongs to no namespace"):
        await cluster.get_object(CALLER, "node", "node-1", "team-a")


async def test_a_namespace_out_of_reach_looks_like_one_that_is_not_there(
    client: KubeClient, api: TableServer
) -> None:
    cluster = Cluster(client, Reach((), ("team-a",)), digest_key=b"test")

    with pytest.raises(NotFound):
        await cluster.get_object(CALLER, "pod", "pod-0", "team-b")
    with pytest.raises(NotFound):
        await pods(cluster, None)

    assert len(list(api)) == 0


async def test_an_answer_of_another_shape_is_an_upstream_failure(
    cluster: Cluster, api: TableServer
) -> None:
    api["get", "/api/v1/namespaces/team-a/pods"] << b"<html>"
    api["get", "/api/v1/namespaces/team-a/pods/pod-0"] << b"<html>"

    with pytest.raises(UpstreamFailed):
        await pods(cluster)
    with pytest.raises(UpstreamFailed):
        await cluster.get_object(CALLER, "pod", "pod-0", "team-a")
