"""Slack through the whole service: a person agrees, and a key never posts twice, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.exceptions import ToolError

from fleet_common.mcp.server import create_server
from fleet_common.testing import admin, serving
from fleet_data.server import SERVICE
from fleet_data.settings import Settings
from fleet_data.testing.slack import TOKEN, SlackServer

POST = "connector_slack_post"


@pytest.fixture
def slack() -> SlackServer:
    """The workspace."""
    return SlackServer()


@pytest.fixture
def asked() -> list[str]:
    """What a person was asked; the answer is yes until `no` is in it."""
    return []


@pytest.fixture
async def client(
    settings: Settings, slack: SlackServer, connected: Any, asked: list[str]
) -> AsyncGenerator[Client[Any]]:
    async def answer(message: str, *_: Any) -> ElicitResult[Any]:
        asked.append(message)
        return ElicitResult(action="accept", content={"approve": "no" not in asked})

    await connected("slack", token=TOKEN)
    async with serving(slack.app()) as url:
        told = {"connector_urls": f"slack={url}"}
        chosen = Settings.model_validate({**settings.model_dump(), **told})
        server = create_server(SERVICE, chosen, local_principal=admin())
        async with Client(server, elicitation_handler=answer) as client:
            yield client


async def post(client: Client[Any], **more: Any) -> Any:
    told = {"channel": "#general", "text": "Deal won", **more}
    return (await client.call_tool(POST, told)).structured_content


async def test_a_message_is_posted_after_a_person_agreed(
    client: Client[Any], slack: SlackServer, asked: list[str]
) -> None:
    done = await post(client, text="Won <!channel> & <https://x|here>", channel="C0GENERAL")
    assert done == {"state": "posted", "channel": "C0GENERAL", "ts": "1700000000.000001"}
    assert asked[0].startswith("Post to C0GENERAL in Slack as ada@example.com\ntext: Won")
    # Nobody is called, no link is hidden, and Slack fetches none.
    assert slack.posted[0]["text"] == "Won &lt;!channel&gt; &amp; &lt;https://x|here&gt;"
    assert slack.posted[0]["unfurl_links"] is False
    asked.append("no")
    with pytest.raises(ToolError, match="approval_denied"):
        await post(client)
    assert len(slack.posted) == 1


async def test_a_key_posts_once_and_a_lost_answer_is_told_as_such(
    client: Client[Any], slack: SlackServer, asked: list[str]
) -> None:
    first = await post(client, idempotency_key="deal-0001")
    assert await post(client, idempotency_key="deal-0001") == first
    assert len(slack.posted) == len(asked) == 1
    with pytest.raises(ToolError, match="idempotency_key was used"):
        await post(client, idempotency_key="deal-0001", text="Deal lost")

    slack.faults.append("lost")
    for _ in range(2):
        lost = await post(client, idempotency_key="deal-0002")
        assert lost == {"state": "unknown", "channel": None, "ts": None}
    assert len(slack.posted) == 2

    # What was refused for sure may be tried again with the same key.
    for fault, code in ((429, "rate_limited"), ("ratelimited", "rate_limited"), ("not_in_channel", "permission_denied"),
                        ("missing_scope", "scope_missing"), ("msg_too_long", "invalid_input")):  # fmt: skip
        slack.faults.append(fault)
        with pytest.raises(ToolError, match=code):
            await post(client, idempotency_key="deal-0003")
    assert (await post(client, idempotency_key="deal-0003"))["state"] == "posted"
    with pytest.raises(ToolError, match="not_found"):
        await post(client, channel="#nowhere")
    slack.faults.append("token_revoked")
    with pytest.raises(ToolError, match="consent_withdrawn"):
        await post(client)


async def test_of_many_calls_with_one_key_one_posts(
    client: Client[Any], slack: SlackServer
) -> None:
    slack.faults.append(429)
    with pytest.raises(ToolError, match="rate_limited"):
        await post(client, idempotency_key="deal-0004")
    calls = [post(client, idempotency_key="deal-0004") for _ in range(8)]
    done = [each["state"] for each in await asyncio.gather(*calls)]
    assert len(slack.posted) == 1
    assert "posted" in done


async def test_slacks_own_client_works_with_the_emulator(slack: SlackServer) -> None:
    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError

    async with serving(slack.app()) as url:

        def use() -> None:
            client = WebClient(TOKEN, base_url=f"{url}/api/")
            assert client.auth_test()["team"] == "Example"
            assert client.chat_postMessage(channel="#general", text="Hi")["channel"] == "C0GENERAL"
            with pytest.raises(SlackApiError, match="channel_not_found"):
                client.chat_postMessage(channel="#nowhere", text="Hi")
            with pytest.raises(SlackApiError, match="invalid_auth"):
                WebClient("xoxb-x", base_url=f"{url}/api/").auth_test()

        await asyncio.to_thread(use)
    assert [each["text"] for each in slack.posted] == ["Hi"]
