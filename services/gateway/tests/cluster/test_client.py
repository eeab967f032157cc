from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

import pytest

from fleet_common.errors import FleetError, Unavailable, UpstreamFailed
from fleet_common.metrics import Metrics
from fleet_common.settings import SettingsError
from fleet_gateway.cluster.client import Account, ClusterApi, Expired, Kind, _refusal
from fleet_gateway.cluster.models import SERVICES


class ApiServer(Protocol):
    """What the fixture `api` gives (see conftest.py)."""

    url: str


async def connect(api: ApiServer, account: Path) -> ClusterApi:
    return await asyncio.to_thread(ClusterApi, api.url, Account(account), Metrics("gateway"))


async def test_a_server_that_another_authority_vouches_for_is_not_believed(
    api: ApiServer, account: Path
) -> None:
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    other = await asyncio.to_thread(system.read_text)
    await asyncio.to_thread((account / "ca.crt").write_text, other)
    client = await connect(api, account)
    async with client.opened():
        with pytest.raises(Unavailable):
            await client.list(SERVICES)


async def test_what_the_account_may_not_read_is_an_error_that_says_so(
    api: ApiServer, account: Path
) -> None:
    client = await connect(api, account)
    async with client.opened():
        with pytest.raises(UpstreamFailed, match="answered 403"):
            await client.list(Kind("api/v1", "secrets", "any"))


async def test_a_token_that_is_gone_is_no_reason_to_ask_without_one(
    api: ApiServer, account: Path
) -> None:
    client = await connect(api, account)
    await asyncio.to_thread((account / "token").unlink)
    async with client.opened():
        with pytest.raises(Unavailable, match="the service account"):
            await client.list(SERVICES)


def test_without_a_service_account_the_start_ends_with_the_variables_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FLEET_GATEWAY_KUBERNETES_ACCOUNT"):
        ClusterApi("https://127.0.0.1:1", Account(tmp_path), Metrics("gateway"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [(410, Expired), (429, Unavailable), (503, Unavailable), (401, UpstreamFailed)],
)
def test_only_410_asks_for_a_new_list(status: int, expected: type[FleetError]) -> None:
    assert type(_refusal(status)) is expected
