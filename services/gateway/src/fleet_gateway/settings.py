"""What the gateway can be told: `FLEET_GATEWAY_*`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fleet_common.settings import ServiceSettings


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
    data_url: str = Field("http://127.0.0.1:8081", description="Base URL of the data service.")
    devops_url: str = Field("http://127.0.0.1:8082", description="Base URL of the devops service.")
    aiml_url: str = Field("http://127.0.0.1:8083", description="Base URL of the aiml service.")
    refresh_s: float = Field(
        10.0, gt=0, description="Time between two looks at the services' catalogues, in seconds."
    )
    connect_timeout_s: float = Field(
        2.0, gt=0, description="Time to connect to a service, in seconds."
    )
    list_timeout_s: float = Field(
        3.0, gt=0, description="Time a service has to answer a list, in seconds."
    )

    def backends(self) -> dict[str, str]:
        """Return the base URL of each service by name."""
        urls = {"data": self.data_url, "devops": self.devops_url, "aiml": self.aiml_url}
        return {name: url.rstrip("/") for name, url in urls.items()}
