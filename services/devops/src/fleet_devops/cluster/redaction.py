"""What of an object never leaves the service, and what nobody needs to see."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

_LAST_APPLIED = (
    "kubectl.kubernetes.io/last-applied-configuration"  # repeats the object, data included
)
_SECRET_PARTS = ("data", "stringData")


def presentable(obj: Mapping[str, Any], digest_key: bytes) -> dict[str, Any]:
    """Return a copy of an object that is safe to show.

    managedFields and the last applied configuration are gone. Values of a Secret are keyed digests: equal
    values look equal, and a short password cannot be guessed from its digest.
    """
    # Any: a Kubernetes object is arbitrary JSON.
    shown = dict(obj)
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "managedFields"}
    if _LAST_APPLIED in (annotations := metadata.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in annotations.items() if k != _LAST_APPLIED}
    shown["metadata"] = metadata
    if obj.get("kind") == "Secret":
        for part in _SECRET_PARTS:
            if isinstance(values := obj.get(part), Mapping):
                shown[part] = {name: _digest(str(v), digest_key) for name, v in values.items()}
    return shown


def _digest(value: str, key: bytes) -> str:
    return "hmac-sha256:" + hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]
