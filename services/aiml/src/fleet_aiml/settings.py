"""Settings of this service: `FLEET_AIML_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fleet_common.settings import ServiceSettings


class AimlSettings(ServiceSettings):
    """What this service can be told besides what every service can."""

    model_config = SettingsConfigDict(env_prefix="FLEET_AIML_")

    port: int = Field(8083, ge=0, le=65535, description="Port to listen on.")
    queue_wait_s: float = Field(
        0.6,
        ge=0,
        le=60,
        description="Longest wait for a slot, in seconds: what the target for p95 leaves.",
    )
    engine: Literal["onnx", "torch"] = Field(
        "onnx", description="What runs the embedding model; torch needs the extra [torch]."
    )
    model_path: Path | None = Field(
        None, description="Folder with the embedding model, instead of the installed package's."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Threads of the model; by default the CPU limit of the process.",
    )
    batch_tokens: int = Field(
        512, ge=256, le=65_536, description="Tokens in one forward pass, padding included."
    )
    batch_items: int = Field(32, ge=1, le=4096, description="Texts in one forward pass.")
    model_queue: int = Field(
        1024, ge=128, le=100_000, description="Texts that may wait for the model; more are refused."
    )
    warm_after_s: float = Field(
        3.0,
        ge=0,
        le=3600,
        description="Load the model this long after the start, if no call did before, in seconds.",
    )
    vector_path: Path = Field(
        Path(".fleet/vectors"), description="Folder of the embedded vector store; one process only."
    )
    qdrant_url: str | None = Field(
        None, description="URL of a Qdrant server; set it to run more than one replica."
    )
    qdrant_api_key: SecretStr | None = Field(None, description="API key of the Qdrant server.")
