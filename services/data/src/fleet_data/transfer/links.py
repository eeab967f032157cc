"""Signed links: whoever has one may fetch one file, or send one, until it expires, and nothing else.

The signature is HMAC-SHA256 over verb, tenant, id and expiry with a key derived from the service's secret. Other
replicas verify it without asking anybody, and what it opens is asked of the row each time, so it can be revoked.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import urlencode

from fleet_common.errors import NotFound
from fleet_data.transfer.errors import LinkGone

Path = Literal["exports", "uploads"]


class Links:
    """Makes links that begin with `base_url`, and believes those it made."""

    def __init__(
        self, secret: str, base_url: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = hmac.digest(secret.encode(), b"transfer links", "sha256")
        self._base = base_url.rstrip("/")
        self._clock = clock

    def make(self, path: Path, tenant: str, id_: str, *, life_s: float) -> str:
        """Return the link to a file."""
        expires = str(int(self._clock() + life_s))
        query = {
            "tenant": tenant,
            "expires": expires,
            "sig": self._sign(path, tenant, id_, expires),
        }
        return f"{self._base}/{path}/{id_}?{urlencode(query)}"

    def tenant_of(self, path: Path, id_: str, query: Mapping[str, str]) -> str:
        """Return the tenant whose file a link opens.

        Raises:
            NotFound: we never made it.
            LinkGone: its time is over.
        """
        tenant, expires = query.get("tenant", ""), query.get("expires", "")
        told = query.get("sig", "").encode()
        if not hmac.compare_digest(told, self._sign(path, tenant, id_, expires).encode()):
            raise NotFound("file", "behind this link")
        if int(expires) < self._clock():
            raise LinkGone
        return tenant

    def _sign(self, *told: str) -> str:
        # NUL stands in none of them: two different links have two different texts.
        return hmac.new(self._key, "\0".join(told).encode(), "sha256").hexdigest()
