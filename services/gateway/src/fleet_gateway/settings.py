"""What the gateway can be told: `FLEET_GATEWAY_*`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from fleet_common.settings import CommaList, ServiceSettings

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_URL = re.compile(r"https?://[^/?#@\s]+/?")
_OWN = {"gateway", "key"}  # the gateway's own lists and its own door


def is_service_name(text: str) -> bool:
    """Return whether a service may have this name: it is a part of paths and of audiences."""
    return _NAME.fullmatch(text) is not None and text not in _OWN


class Settings(ServiceSettings):
    """Settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="FLEET_GATEWAY_")

    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    slots: int = Field(
        512, ge=1, le=10_000, description="Requests that run at once in this process."
    )
    internal_private_key_file: Path = Field(
        description="PEM with the private key that signs internal tokens; only the gateway has it."
    )
    services: CommaList = Field(
        (
            "data=http://127.0.0.1:8081",
            "devops=http://127.0.0.1:8082",
            "aiml=http://127.0.0.1:8083",
        ),
        description="The services as name=base URL, comma-separated. A name may come several times; every address that "
        "a host name has in DNS is an endpoint. With FLEET_GATEWAY_REGISTRY=kubernetes the default is none.",
    )
    registry: Literal["configuration", "kubernetes"] = Field(
        "configuration",
        description="Where services come from besides FLEET_GATEWAY_SERVICES: nowhere else, or the Kubernetes Services "
        "in the gateway's namespace that have the label mcp-fleet.dev/service.",
    )
    kubernetes_url: str = Field(
        "https://kubernetes.default.svc", pattern="^https://", description="The Kubernetes API."
    )
    kubernetes_account: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        description="Folder with the token, ca.crt and namespace of the pod's service account.",
    )
    webhooks: CommaList = Field(
        ("github=devops",),
        description="Who owns the deliveries of a provider, as provider=service, comma-separated.",
    )
    refresh_s: float = Field(
        10.0, gt=0, description="Time between two looks at the services' catalogues, in seconds."
    )
    connect_timeout_s: float = Field(
        2.0, gt=0, description="Time to connect to a service, in seconds."
    )
    list_timeout_s: float = Field(
        3.0, gt=0, description="Time a service has to answer a list, in seconds."
    )
    changed_tools: Literal["hold", "report"] = Field(
        "hold",
        description="What happens to a tool whose definition changes while its service's version stays: hold it back, "
        "or report and offer it, for where services are being worked on.",
    )
    pins_file: Path | None = Field(
        None,
        description="JSON file that keeps the digests of tool definitions where there is no Redis.",
    )
    fallbacks: CommaList = Field(
        (),
        description="Services that take calls while their owner is unavailable, as glob=service, such as "
        "llm_*=aiml-small; comma-separated.",
    )
    exchange_url: str | None = Field(
        None,
        description="Token endpoint that exchanges tokens (RFC 8693) for services, https or on loopback; without it "
        "the gateway mints them.",
    )
    exchange_client_id: str = Field(
        "fleet-gateway", description="Client id of the gateway at the token endpoint."
    )
    exchange_client_secret: SecretStr = Field(
        SecretStr(""), description="Client secret of the gateway at the token endpoint."
    )
    exchange_audience: str = Field(
        "{service}", description="Audience of exchanged tokens; {service} is the service's name."
    )
    discover_s: float = Field(
        3.0, gt=0, description="Time between two looks for endpoints in DNS, in seconds."
    )
    hold_s: float = Field(
        30.0,
        ge=0,
        description="Longest time that a call waits for a service without endpoints, in seconds.",
    )

    @field_validator("services")
    @classmethod
    def _are_services(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            name, _, url = entry.partition("=")
            if not is_service_name(name):
                raise ValueError(f"{entry!r} does not begin with the name of a service and =")
            if not _URL.fullmatch(url):
                raise ValueError(f"{name}: expected a URL such as http://{name}:8081")
        return entries

    @field_validator("webhooks")
    @classmethod
    def _are_owners(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if not all(_NAME.fullmatch(name) for name in entry.split("=", 1)) or "=" not in entry:
                raise ValueError(f"{entry!r} is not of the form provider=service")
        return entries

    @model_validator(mode="after")
    def _name_known_services(self) -> Self:
        unknown = {service for _, service in self.fallback_services()} - self.backends().keys()
        if unknown and self.registry == "configuration":
            raise ValueError(f"fallbacks name unknown services: {', '.join(sorted(unknown))}")
        return self

    def fallback_services(self) -> tuple[tuple[str, str], ...]:
        """Return (glob of tool names, service) in the order given."""
        parts = (entry.partition("=") for entry in self.fallbacks)
        return tuple((glob, service) for glob, _, service in parts)

    def webhook_owners(self) -> dict[str, str]:
        """Return the service that owns each provider's deliveries."""
        return {provider: owner for provider, _, owner in (e.partition("=") for e in self.webhooks)}

    def backends(self) -> dict[str, tuple[str, ...]]:
        """Return the base URLs of each configured service by name."""
        if self.registry == "kubernetes" and "services" not in self.model_fields_set:
            return {}  # the default is a laptop's
        urls: dict[str, tuple[str, ...]] = {}
        for name, _, url in (entry.partition("=") for entry in self.services):
            urls[name] = (*urls.get(name, ()), url.rstrip("/"))
        return urls
