"""The emulated HubSpot answers HubSpot's own client as HubSpot does: no path, field or error is our invention."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

# HubSpot's client carries no types.
from hubspot import HubSpot  # type: ignore[import-untyped]
from hubspot.crm.associations.v4.models import (  # type: ignore[import-untyped]
    AssociationSpec,
    BatchInputPublicAssociationMultiArchive,
    BatchInputPublicAssociationMultiPost,
    BatchInputPublicFetchAssociationsBatchRequest,
    PublicAssociationMultiArchive,
    PublicAssociationMultiPost,
    PublicFetchAssociationsBatchRequest,
    PublicObjectId,
)
from hubspot.crm.companies import (  # type: ignore[import-untyped]
    models as of_companies,
)
from hubspot.crm.contacts import models  # type: ignore[import-untyped]
from hubspot.crm.contacts.exceptions import ApiException  # type: ignore[import-untyped]
from hubspot.crm.properties.models import PropertyCreate  # type: ignore[import-untyped]
from hubspot.utils.signature import Signature  # type: ignore[import-untyped]

from fleet_common.testing.webhooks import hubspot_headers


@pytest.fixture
def official(hubspot_url: str) -> Any:
    """HubSpot's own client on an account of this test's."""
    return HubSpot(access_token=uuid4().hex, host=hubspot_url)


def contact(email: str, **more: str) -> Any:
    return models.SimplePublicObjectBatchInputForCreate(
        properties={"email": email, **more}, associations=[]
    )


def made(official: Any, *emails: str) -> list[Any]:
    batch = models.BatchInputSimplePublicObjectBatchInputForCreate(inputs=[*map(contact, emails)])
    return list(official.crm.contacts.batch_api.create(batch).results)


def found(official: Any, **more: Any) -> Any:
    request = models.PublicObjectSearchRequest(**more)
    return official.crm.contacts.search_api.do_search(request)


def failure(call: Callable[..., Any], *args: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(ApiException) as raised:
        call(*args)
    return raised.value.status, json.loads(raised.value.body)


def test_records_are_made_read_changed_found_and_archived(official: Any) -> None:
    batches = official.crm.contacts.batch_api
    ada, bob = made(official, "Ada@Example.com", "bob@example.com")
    assert ada.properties["email"] == "ada@example.com"
    ids = [models.SimplePublicObjectId(id=each) for each in (ada.id, "999999")]
    asked = models.BatchReadInputSimplePublicObjectId(
        inputs=ids, properties=["email"], properties_with_history=[]
    )
    read = batches.read(asked)
    assert [each.id for each in read.results] == [ada.id]
    assert read.errors[0].context == {"ids": ["999999"]}
    inputs = [models.SimplePublicObjectBatchInput(id=bob.id, properties={"city": "Bern"})]
    (moved,) = batches.update(models.BatchInputSimplePublicObjectBatchInput(inputs=inputs)).results
    assert (moved.properties["city"], moved.updated_at > bob.updated_at) == ("Bern", True)
    since = str(int(moved.updated_at.timestamp() * 1000))
    modified = models.Filter(property_name="lastmodifieddate", operator="GTE", value=since)
    group = [models.FilterGroup(filters=[modified])]
    assert [r.id for r in found(official, filter_groups=group, limit=10).results] == [bob.id]
    batches.archive(models.BatchInputSimplePublicObjectId(inputs=ids[:1]))
    assert [r.id for r in official.crm.contacts.basic_api.get_page(archived=True).results] == [
        ada.id
    ]


def test_a_search_ends_at_ten_thousand_and_pages_before_that(official: Any) -> None:
    made(official, *(f"p{n}@example.com" for n in range(3)))
    page = found(official, limit=2, sorts=["hs_object_id"])
    assert (page.total, len(page.results), page.paging.next.after) == (3, 2, "2")
    assert len(found(official, limit=2, after="2").results) == 1
    request = models.PublicObjectSearchRequest(limit=100, after="9950")
    status, told = failure(official.crm.contacts.search_api.do_search, request)
    assert (status, told["category"]) == (400, "VALIDATION_ERROR")


def test_an_upsert_by_a_unique_property_makes_one_record_and_names_what_failed(
    official: Any,
) -> None:
    told = PropertyCreate(
        name="fleet_record_id", label="Fleet", type="string", field_type="text",
        group_name="contactinformation", has_unique_value=True,
    )  # fmt: skip
    assert official.crm.properties.core_api.create("contacts", told).has_unique_value

    def upsert(**properties: str) -> Any:
        each = models.SimplePublicObjectBatchInputUpsert(
            id="r-1",
            id_property="fleet_record_id",
            object_write_trace_id="t-1",
            properties=properties,
        )
        batch = models.BatchInputSimplePublicObjectBatchInputUpsert(inputs=[each])
        return official.crm.contacts.batch_api.upsert(batch)

    first, second = upsert(email="a@example.com").results[0], upsert(city="Bern").results[0]
    assert (first.id, first.new, second.new) == (second.id, True, False)
    assert upsert(lifecyclestage="nonsense").errors[0].context == {"objectWriteTraceId": ["t-1"]}


def test_a_bad_value_or_too_many_refuse_the_whole_batch(official: Any) -> None:
    create = official.crm.contacts.batch_api.create
    batch = models.BatchInputSimplePublicObjectBatchInputForCreate
    status, told = failure(create, batch(inputs=[contact("ok@example.com"), contact("bad")]))
    assert (status, told["errors"][0]["code"]) == (400, "INVALID_EMAIL")
    many = batch(inputs=[contact(f"p{n}@example.com") for n in range(101)])
    assert failure(create, many)[0] == 400
    assert failure(create, batch(inputs=[contact("x@example.com", nonsense="1")]))[0] == 400
    made(official, "a@example.com")
    assert failure(create, batch(inputs=[contact("a@example.com")]))[1]["category"] == "CONFLICT"


def test_associations_go_both_ways_and_one_is_primary(official: Any) -> None:
    (ada,) = made(official, "ada@example.com")
    companies = made_companies(official, "First", "Second")
    links = official.crm.associations.v4.batch_api
    primary = AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=1)
    pairs = [
        PublicAssociationMultiPost(
            types=[primary], _from=PublicObjectId(id=ada.id), to=PublicObjectId(id=company)
        )
        for company in companies
    ]
    links.create("contacts", "companies", BatchInputPublicAssociationMultiPost(inputs=pairs))

    def linked() -> dict[str, list[int]]:
        asked = [PublicFetchAssociationsBatchRequest(id=ada.id)]
        batch = BatchInputPublicFetchAssociationsBatchRequest(inputs=asked)
        results = links.get_page("contacts", "companies", batch).results
        return {
            str(to.to_object_id): sorted(each.type_id for each in to.association_types)
            for result in results for to in result.to
        }  # fmt: skip

    assert linked() == {companies[0]: [279], companies[1]: [1, 279]}
    gone = PublicAssociationMultiArchive(
        _from=PublicObjectId(id=ada.id), to=[PublicObjectId(id=companies[1])]
    )
    links.archive("contacts", "companies", BatchInputPublicAssociationMultiArchive(inputs=[gone]))
    assert linked() == {companies[0]: [1, 279]}


def made_companies(official: Any, *names: str) -> list[str]:
    inputs = [
        of_companies.SimplePublicObjectBatchInputForCreate(
            properties={"name": name}, associations=[]
        )
        for name in names
    ]
    batch = of_companies.BatchInputSimplePublicObjectBatchInputForCreate(inputs=inputs)
    return [each.id for each in official.crm.companies.batch_api.create(batch).results]


async def test_a_limit_is_a_429_that_says_how_long(portal: Any, official: Any) -> None:
    await portal.set(per_10s=1)
    body = {"limit": 1}
    assert (await portal.http.post("/crm/v3/objects/contacts/search", json=body)).status_code == 200
    over = await portal.http.post("/crm/v3/objects/contacts/search", json=body)
    assert (over.status_code, over.json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    assert int(over.headers["Retry-After"]) >= 1
    await portal.set(per_10s=100, daily=0)
    over = await portal.http.post("/crm/v3/objects/contacts/search", json=body)
    assert (over.json()["policyName"], "Retry-After" in over.headers) == ("DAILY", False)


def test_tokens_are_refreshed_as_the_official_client_does_it(official: Any) -> None:
    def token() -> Any:
        return official.oauth.tokens_api.create(
            grant_type="refresh_token",
            refresh_token="refresh.acme",
            client_id="1",
            client_secret="2",
        )

    old, new = token(), token()
    assert old.access_token != new.access_token
    assert official.oauth.access_tokens_api.get(new.access_token).user == "ada@example.com"
    official.access_token = old.access_token
    assert failure(official.crm.contacts.basic_api.get_page)[0] == 401
    stages = HubSpot(access_token=new.access_token, host=official.config["host"])
    (pipeline,) = stages.crm.pipelines.pipelines_api.get_all("deals").results
    assert [stage.id for stage in pipeline.stages][-1] == "closedlost"


def test_our_webhooks_are_signed_as_hubspots_own_library_checks_them() -> None:
    body, url = b'[{"objectId":1}]', "https://fleet.example.com/webhooks/hubspot?a=b"
    headers = hubspot_headers(body, "s" * 16, url=url)
    time = headers["x-hubspot-request-timestamp"]
    signature = headers["x-hubspot-signature-v3"]
    assert Signature.is_valid(
        signature, "s" * 16, body.decode(), url, "POST", signature_version="v3", timestamp=time
    )
