"""From the settings of a service to its OAuth part, or to a sentence about what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from fleet_common.auth.issuer import ALGORITHMS
from fleet_common.auth.oauth import Introspection, OAuth, OAuthConfig
from fleet_common.auth.revocation import Revocations
from fleet_common.metrics import Metrics
from fleet_common.policy import PolicyFile
from fleet_common.redis import Redis
from fleet_common.settings import ServiceSettings, SettingsError


def create_oauth(
    settings: ServiceSettings, redis: Redis | None, policy: PolicyFile, metrics: Metrics
) -> OAuth | None:
    """Return the resource server that the settings describe; None without an issuer: keys only.

    Raises:
        SettingsError: as `oauth_config`.
    """
    config = oauth_config(settings)
    return OAuth(config, Revocations(redis), policy, metrics) if config else None


def oauth_config(settings: ServiceSettings) -> OAuthConfig | None:
    """Return what the settings say about OAuth; None without an issuer: keys only.

    Raises:
        SettingsError: something is missing, not https, or an algorithm that is never accepted.
    """
    prefix = settings.prefix()
    if settings.oauth_issuer is None:
        if settings.introspection_url is not None:
            raise SettingsError(f"{prefix}INTROSPECTION_URL needs {prefix}OAUTH_ISSUER")
        return None
    if settings.public_url is None:
        raise SettingsError(
            f"{prefix}PUBLIC_URL is not set: tokens of {prefix}OAUTH_ISSUER must name this service"
        )
    return OAuthConfig(
        issuer=secure_url(settings.oauth_issuer, f"{prefix}OAUTH_ISSUER"),
        public_url=secure_url(settings.public_url, f"{prefix}PUBLIC_URL").rstrip("/"),
        jwks_url=_optional(settings.oauth_jwks_url, f"{prefix}OAUTH_JWKS_URL"),
        algorithms=_algorithms(settings.oauth_algorithms, f"{prefix}OAUTH_ALGORITHMS"),
        tenant_claim=settings.oauth_tenant_claim,
        roles_claim=settings.oauth_roles_claim,
        introspection=_introspection(settings, prefix),
    )


def _introspection(settings: ServiceSettings, prefix: str) -> Introspection | None:
    url = _optional(settings.introspection_url, f"{prefix}INTROSPECTION_URL")
    if url is None:
        return None
    if not settings.introspection_client_id or settings.introspection_client_secret is None:
        raise SettingsError(
            f"{prefix}INTROSPECTION_URL needs {prefix}INTROSPECTION_CLIENT_ID and "
            f"{prefix}INTROSPECTION_CLIENT_SECRET"
        )
    secret = settings.introspection_client_secret.get_secret_value()
    return Introspection(url, settings.introspection_client_id, secret)


def _algorithms(chosen: Iterable[str], variable: str) -> tuple[str, ...]:
    wanted = tuple(chosen)
    if not wanted or not set(wanted) <= set(ALGORITHMS):
        raise SettingsError(f"{variable}: choose among {', '.join(ALGORITHMS)}")
    return wanted


def _optional(url: str | None, variable: str) -> str | None:
    return None if url is None else secure_url(url, variable)


def secure_url(url: str, variable: str) -> str:
    """Return the URL of something that gets secrets, unchanged: issuers and audiences are compared as text.

    Raises:
        SettingsError: it is neither https nor on this machine; the text names the variable.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"{variable} is not a URL of scheme, host and path")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_local(parts.hostname)):
        raise SettingsError(f"{variable} must begin with https://")
    return url


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
