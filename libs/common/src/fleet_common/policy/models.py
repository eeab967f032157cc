"""The policy file as types; the JSON Schema in docs/reference is made from them.

Whatever a file does not say is denied, and whatever it says that is not here is an error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Glob = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]
Scope = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_-]*:[a-z]+$")]
Name = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Column = Annotated[str, Field(max_length=130, pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$")]
# Strict: YAML's `yes` is no number.
Count = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Limit(_Part):
    """How fast something may be used."""

    per_minute: Count = Field(description="Sustained calls a minute.")
    burst: Count = Field(description="Calls that may come at once.")


class Limits(_Part):
    """Rate limits of one caller."""

    calls: Limit | None = Field(None, description="All tool calls together.")
    tools: dict[Glob, Limit] = Field({}, description="Tool glob → limit of the tools it names.")


class Quotas(_Part):
    """What a caller may use up in a day."""

    calls_per_day: Count | None = Field(None, description="Tool calls between two UTC midnights.")


class Role(_Part):
    """What the callers with this role may do. A call needs one role that allows all of it, and none that denies it."""

    description: str = Field("", max_length=300, description="Who this role is for.")
    scopes: frozenset[Scope] = Field(
        frozenset(), description="Scopes such as `data:read`; none grants nothing."
    )
    tools: tuple[Glob, ...] = Field(("*",), description="Tools the scopes may be used for.")
    prompts: tuple[Glob, ...] = Field(("*",), description="Prompts the scopes may be used for.")
    resources: tuple[Glob, ...] = Field(
        ("*",), description="Resource URIs and URI templates the scopes may be used for."
    )
    deny: tuple[Glob, ...] = Field(
        (), description="Tools, prompts and resources refused whatever other roles allow."
    )
    tenants: tuple[Glob, ...] = Field(("*",), description="Tenants in which the role counts.")
    limits: Limits = Field(Limits(), description="Rate limits of each caller.")
    quotas: Quotas = Field(Quotas(), description="Daily quotas of each caller.")
    max_rows: Count | None = Field(None, description="Most rows one answer may have.")
    repositories: tuple[Glob, ...] = Field(
        ("*",), description="`owner/name` of the repositories within reach."
    )
    namespaces: tuple[Glob, ...] = Field(("*",), description="Kubernetes namespaces within reach.")
    databases: tuple[Glob, ...] = Field(
        (), description="Other databases that SQL may be run on, besides the CRM's own."
    )
    masks: frozenset[Column] = Field(
        frozenset(), description="CRM fields hidden, as `email` or `contact.email`."
    )


class TenantRules(_Part):
    """What all callers of a tenant share."""

    limits: Limits = Field(Limits(), description="Rate limits of the tenant as a whole.")
    quotas: Quotas = Field(Quotas(), description="Daily quotas of the tenant as a whole.")


class ApprovalRule(_Part):
    """How calls of some tools are confirmed."""

    tools: tuple[Glob, ...] = Field(min_length=1, description="Tools the rule is about.")
    confirm: Literal["human", "two_step", "none"] = Field(
        description="human: a person confirms; two_step: a second call with a token; none: at once."
    )
    second_person: bool = Field(
        False, strict=True, description="Somebody other than the caller must confirm."
    )


class Policy(_Part):
    """One policy file."""

    version: Literal[1] = Field(description="Version of this format.")
    roles: dict[Name, Role] = Field({}, description="Roles by name; any other role grants nothing.")
    tenants: dict[Name, TenantRules] = Field({}, description="Limits of whole tenants, by slug.")
    approvals: tuple[ApprovalRule, ...] = Field(
        (),
        description="First rule that names a tool wins; a destructive tool without one needs a human.",
    )
