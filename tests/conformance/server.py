"""What the official conformance suite wants of a server, built with the fleet's own app factory.

    python tests/conformance/server.py --port 8101 --redis-url redis://127.0.0.1:6379/0

Every caller is let in, because the suite cannot send a key. Names, texts and shapes are the suite's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import mcp_types as mt
from fastmcp import Context
from fastmcp.dependencies import CurrentContext
from fastmcp.prompts import Message, PromptResult, prompt
from fastmcp.resources import resource
from fastmcp.tools import Tool, ToolResult, tool
from fastmcp.utilities.tasks import TaskConfig
from mcp import MCPError
from pydantic import Field, SecretStr

from fleet_common.errors import InvalidInput
from fleet_common.mcp import Completing, Runtime, Service
from fleet_common.mcp.app import create_open_app
from fleet_common.mcp.declared import ASKS_FIRST_META
from fleet_common.mcp.run import serve_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import principal

# One red pixel, and a wave header without samples.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"
    b"\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00"
).decode()
STATE = "round-1"


def image() -> mt.ImageContent:
    return mt.ImageContent(type="image", data=PNG, mime_type="image/png")


def words(text: str) -> mt.TextContent:
    return mt.TextContent(type="text", text=text)


def embedded(uri: str, mime_type: str, text: str) -> mt.EmbeddedResource:
    contents = mt.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return mt.EmbeddedResource(type="resource", resource=contents)


def question(message: str, field: str, kind: str = "string") -> mt.ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return mt.ElicitRequest(
        method="elicitation/create",
        params=mt.ElicitRequestFormParams(message=message, requested_schema=schema),
    )


def sampling(text: str) -> mt.CreateMessageRequest:
    said = mt.SamplingMessage(role="user", content=words(text))
    params = mt.CreateMessageRequestParams(messages=[said], max_tokens=100)
    return mt.CreateMessageRequest(method="sampling/createMessage", params=params)


def roots() -> mt.ListRootsRequest:
    return mt.ListRootsRequest(method="roots/list")


def need(
    ctx: Context, state: str | None = None, **wanted: Any
) -> tuple[dict[str, Any], mt.InputRequiredResult | None]:
    """Return the answers so far, and what must still be asked, if anything."""
    answers = {
        key: value
        for key, value in (ctx.input_responses or {}).items()
        if _fits(wanted, key, value)
    }
    if set(wanted) <= set(answers):
        return answers, None
    return answers, mt.InputRequiredResult(input_requests=wanted, request_state=state)


def _fits(wanted: dict[str, Any], key: str, value: Any) -> bool:
    if isinstance(wanted.get(key), mt.ElicitRequest):
        return isinstance(value, mt.ElicitResult) and value.action == "accept"
    return key in wanted


def declares(ctx: Context, name: str) -> bool:
    request = ctx.request_context
    told = request.session.client_params if request else None
    return told is not None and getattr(told.capabilities, name) is not None


def require_capability(ctx: Context, name: str) -> None:
    """Refuse what the client has not declared, as the protocol's own error."""
    if not declares(ctx, name):
        raise MCPError(
            mt.MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"This tool needs the client capability {name}",
            {"requiredCapabilities": {name: {}}},
        )


@tool
async def test_simple_text() -> str:
    """Return text."""
    return "This is a simple text response for testing."


@tool
async def test_image_content() -> ToolResult:
    """Return an image."""
    return ToolResult(content=[image()])


@tool
async def test_audio_content() -> ToolResult:
    """Return a sound."""
    return ToolResult(content=[mt.AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


@tool
async def test_embedded_resource() -> ToolResult:
    """Return an embedded resource."""
    text = "This is an embedded resource content."
    return ToolResult(content=[embedded("test://embedded-resource", "text/plain", text)])


@tool
async def test_multiple_content_types() -> ToolResult:
    """Return three kinds of content."""
    data = json.dumps({"test": "data", "value": 123})
    mixed = embedded("test://mixed-content-resource", "application/json", data)
    return ToolResult(content=[words("Multiple content types test:"), image(), mixed])


@tool
async def test_tool_with_logging(ctx: Context = CurrentContext()) -> str:
    """Send three log messages."""
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(text)
        await asyncio.sleep(0.05)
    return "logged"


@tool
async def test_error_handling() -> str:
    """Always fail."""
    raise InvalidInput("This tool intentionally returns an error for testing")


@tool
async def test_tool_with_progress(ctx: Context = CurrentContext()) -> str:
    """Report progress."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
        await asyncio.sleep(0.05)
    return "done"


@tool
async def test_missing_capability(ctx: Context = CurrentContext()) -> str:
    """Need sampling."""
    require_capability(ctx, "sampling")
    return "the client can sample"


@tool
async def test_custom_headers(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> str:
    """Take an argument that is repeated in a header."""
    return f"The region is {region}"


@tool
async def test_sampling(prompt: str, ctx: Context = CurrentContext()) -> str:
    """Ask the client's model in the middle of a call, as the handshake era does."""
    said = mt.SamplingMessage(role="user", content=words(prompt))
    answer = await ctx.session.create_message([said], max_tokens=100)
    return f"LLM response: {answer.content}"


@tool
async def test_elicitation(message: str, ctx: Context = CurrentContext()) -> str:
    """Ask the user in the middle of a call."""
    return await elicited(ctx, message, username={"type": "string"}, email={"type": "string"})


@tool
async def test_elicitation_sep1034_defaults(ctx: Context = CurrentContext()) -> str:
    """Ask with a default for each primitive type."""
    return await elicited(
        ctx,
        "Please confirm",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )


@tool
async def test_elicitation_sep1330_enums(ctx: Context = CurrentContext()) -> str:
    """Ask for one or several of a list, in each way to write the list."""
    plain = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
    legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]}
    return await elicited(
        ctx,
        "Please choose",
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", **legacy},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )


async def elicited(ctx: Context, message: str, **properties: Any) -> str:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    answer = await ctx.session.elicit_form(message, schema)
    return f"User response: action={answer.action}, content={answer.content}"


async def json_schema_2020_12_tool(name: str = "") -> str:
    """Have an input schema with every keyword that must survive the list."""
    return name


# What a tool's signature cannot say; the suite's own words.
SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def with_schema(function: Any, schema: dict[str, Any]) -> Any:
    """Return the tool that `function` makes, with `schema` as its input schema."""
    return Tool.from_function(function).model_copy(update={"parameters": schema})


@tool
async def test_input_required_result_elicitation(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask for a name."""
    answers, ask = need(ctx, user_name=question("What is your name?", "name"))
    return ask or f"Hello, {answers['user_name'].content['name']}!"


@tool
async def test_input_required_result_sampling(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask the client's model."""
    answers, ask = need(ctx, capital_question=sampling("What is the capital of France?"))
    return ask or str(answers["capital_question"].content.text)


@tool
async def test_input_required_result_list_roots(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask for the roots."""
    answers, ask = need(ctx, client_roots=roots())
    return ask or ", ".join(str(root.uri) for root in answers["client_roots"].roots)


@tool
async def test_input_required_result_request_state(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask, and carry state."""
    _, ask = need(ctx, STATE, confirm=question("Please confirm", "ok", "boolean"))
    return ask or ("state-ok" if ctx.request_state == STATE else "state-lost")


@tool
async def test_input_required_result_multiple_inputs(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask three things at once."""
    _, ask = need(
        ctx,
        STATE,
        user_name=question("What is your name?", "name"),
        greeting=sampling("Generate a greeting"),
        client_roots=roots(),
    )
    return ask or "all answered"


@tool
async def test_input_required_result_multi_round(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask twice."""
    if ctx.request_state is None:
        _, ask = need(ctx, STATE, step1=question("Step 1: What is your name?", "name"))
        return ask or "asked in one round"
    color = question("Step 2: What is your favorite color?", "color")
    answers, ask = need(ctx, "round-2", step2=color)
    return ask or f"Color: {answers['step2'].content['color']}"


@tool
async def test_input_required_result_tampered_state(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask with a state that must come back untouched."""
    _, ask = need(ctx, STATE, confirm=question("Please confirm", "ok", "boolean"))
    return ask or "untouched"


@tool
async def test_input_required_result_capabilities(
    ctx: Context = CurrentContext(),
) -> str | mt.InputRequiredResult:
    """Ask only what the client can answer."""
    wanted: dict[str, Any] = {}
    if declares(ctx, "elicitation"):
        wanted["user_name"] = question("What is your name?", "name")
    if declares(ctx, "sampling"):
        wanted["greeting"] = sampling("Generate a greeting")
    if not wanted:
        return "nothing can be asked"
    _, ask = need(ctx, **wanted)
    return ask or "answered"


@tool
async def greet(name: str) -> str:
    """Greet; never as a task."""
    return f"Hello, {name}!"


@tool(task=True)
async def slow_compute(seconds: float, label: str = "") -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return f"computed {label}"


@tool(task=TaskConfig(mode="required"))
async def failing_job() -> str:
    """Fail after a while."""
    await asyncio.sleep(1)
    raise InvalidInput("This job intentionally fails")


@tool(task=True)
async def protocol_error_job() -> str:
    """Fail as the protocol, not as the tool."""
    raise MCPError(mt.INTERNAL_ERROR, "This job intentionally fails in the protocol")


@tool(task=True)
async def confirm_delete(
    filename: str, ctx: Context = CurrentContext()
) -> str | mt.InputRequiredResult:
    """Ask once in the middle."""
    _, ask = need(ctx, confirm=question(f"Delete {filename}?", "confirm", "boolean"))
    return ask or f"Deleted {filename}"


@tool(task=True)
async def multi_input(ctx: Context = CurrentContext()) -> str | mt.InputRequiredResult:
    """Ask two things at once in the middle."""
    name, color = question("Your name?", "name"), question("Your color?", "color")
    _, ask = need(ctx, name=name, color=color)
    return ask or "both answered"


@tool(task=TaskConfig(mode="required"), meta={ASKS_FIRST_META: True})
async def test_tool_with_task(ctx: Context = CurrentContext()) -> str | mt.InputRequiredResult:
    """Ask for a name, as a task."""
    answers, ask = need(ctx, user_name=question("What is your name?", "name"))
    return ask or f"Hello, {answers['user_name'].content['name']}!"


@resource("test://static-text", mime_type="text/plain", description="A static text.")
async def static_text() -> str:
    return "This is the content of the static text resource."


@resource("test://static-binary", mime_type="image/png", description="A static image.")
async def static_binary() -> bytes:
    return base64.b64decode(PNG)


@resource("test://watched-resource", mime_type="text/plain", description="A resource to watch.")
async def watched() -> str:
    return "Nothing changed."


@resource("test://template/{id}/data", mime_type="application/json", description="A template.")
async def template(id: str) -> str:  # noqa: A002 - the suite's name
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@prompt
async def test_simple_prompt() -> str:
    """Return a simple prompt."""
    return "This is a simple prompt for testing."


@prompt
async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Return a prompt with arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@prompt
async def test_prompt_with_embedded_resource(resourceUri: str) -> PromptResult:  # noqa: N803
    """Return a prompt with a resource."""
    text = "Embedded resource content for testing."
    return PromptResult(
        [
            Message(embedded(resourceUri, "text/plain", text)),
            Message("Please process the embedded resource above."),
        ]
    )


@prompt
async def test_prompt_with_image() -> PromptResult:
    """Return a prompt with an image."""
    return PromptResult([Message(image()), Message("Please analyze the image above.")])


@prompt
async def test_input_required_result_prompt(ctx: Context = CurrentContext()) -> Any:
    """Ask for the context of the prompt."""
    wanted = question("What context should the prompt use?", "context")
    answers, ask = need(ctx, user_context=wanted)
    return ask or f"Context: {answers['user_context'].content['context']}"


@asynccontextmanager
async def open_nothing(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[None]:
    yield None


def _named(prefix: str) -> tuple[Any, ...]:
    return tuple(fn for name, fn in globals().items() if name.startswith(prefix))


async def complete(_asked: Completing[None]) -> list[str]:
    """Return what the suite looks for."""
    return ["paris", "park", "party"]


PROMPTS = tuple(fn for fn in _named("test_") if "prompt" in fn.__name__)
SERVICE: Service[ServiceSettings, None] = Service(
    name="conformance",
    version="1",
    instructions="What the conformance suite wants.",
    settings=ServiceSettings,
    open_deps=open_nothing,
    tools=(
        *(fn for fn in _named("test_") if fn not in PROMPTS),
        *(greet, slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input),
        with_schema(json_schema_2020_12_tool, SCHEMA_2020_12),
    ),
    resources=(static_text, static_binary, watched, template),
    prompts=PROMPTS,
    complete=complete,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8101)
    parser.add_argument("--redis-url", help="where tasks wait; without one they run inline")
    given = parser.parse_args()
    settings = ServiceSettings(
        port=given.port,
        policy_file=Path(__file__).with_name("policy.yaml"),
        redis_url=SecretStr(given.redis_url) if given.redis_url else None,
    )
    return serve_app(
        create_open_app(SERVICE, settings, principal("everybody")),
        settings,
        Runtime.create("conformance", "1", settings),
    )


if __name__ == "__main__":
    raise SystemExit(main())
