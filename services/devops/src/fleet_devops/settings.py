"""`FLEET_DEVOPS_*`: where GitHub, the cluster and Prometheus are, and what callers may reach there."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fleet_common.settings import CommaList, SecretList, ServiceSettings


class DevopsSettings(ServiceSettings):
    """Settings of the devops service. Nothing is required: a tool whose upstream is not set up says so."""

    model_config = SettingsConfigDict(env_prefix="FLEET_DEVOPS_")

    port: int = Field(8082, ge=0, le=65535, description="Port to listen on.")
    queue_wait_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="Longest wait for a slot, in seconds: what the target for p95 leaves.",
    )
    github_api_url: str = Field(
        "https://api.github.com",
        pattern=r"^https?://",
        description="GitHub's REST API; for GitHub Enterprise Server https://HOST/api/v3.",
    )
    github_token: SecretStr | None = Field(
        None, description="Token for GitHub; without one only public data, 60 requests an hour."
    )
    github_repos: CommaList = Field(
        ("*/*",), description="Repositories that tools may reach, as owner/name globs."
    )
    github_webhook_secrets: SecretList = Field(
        (),
        description="Secrets of GitHub's webhook, comma-separated while one replaces another; without any it is off.",
    )
    github_cache_bytes: int = Field(
        32 * 1024 * 1024, ge=0, description="Memory for answers that GitHub may confirm with 304."
    )
    kubeconfig: Path | None = Field(
        None,
        description="Kubeconfig of the cluster; without one the pod's own service account is used.",
    )
    kube_context: str | None = Field(
        None, description="Context in the kubeconfig; its current one by default."
    )
    k8s_namespaces: CommaList = Field(
        ("*",),
        description="Namespaces that tools may reach, as globs; anything but * hides cluster-wide kinds.",
    )
    digest_key: SecretStr | None = Field(
        None,
        description="Key of the digests shown for Secret values. Give all replicas the same one, "
        "or digests differ between them.",
    )
    prometheus_url: str | None = Field(
        None, pattern=r"^https?://", description="Base URL of Prometheus, without /api/v1."
    )
    prometheus_token: SecretStr | None = Field(
        None, description="Bearer token for Prometheus, when it wants one."
    )
    upstream_timeout_s: float = Field(
        15.0, gt=0, le=300, description="Longest wait for one answer of an upstream, in seconds."
    )
