"""Sealing: AES-256-GCM under the newest of the operator's keys, bound to the place where it is kept.

A sealed text is `key id (4 bytes) | nonce (12) | ciphertext and tag`. The key id only says which key to try. Whoever
moves a sealed text to another row gets nothing: the row's own facts are authenticated with it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from fleet_common.errors import NotConfigured
from fleet_common.settings import SettingsError
from fleet_data.connectors.errors import Unreadable

VARIABLE = "FLEET_DATA_CREDENTIALS_KEYS"
_ID_BYTES, _NONCE_BYTES = 4, 12
_KEY_CHARS = 32


class Vault:
    """Seals with the newest key, opens with any."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        """Take the operator's secrets, the newest last; none of them means that nothing can be kept.

        Raises:
            SettingsError: one is too short to be a key.
        """
        texts = [key.get_secret_value() for key in keys]
        if any(len(text) < _KEY_CHARS for text in texts):
            raise SettingsError(f"{VARIABLE}: each key needs {_KEY_CHARS} characters or more")
        self._ciphers = {_key_id(text): AESGCM(_key(text)) for text in texts}
        self._newest = _key_id(texts[-1]) if texts else None

    @property
    def can_seal(self) -> bool:
        """Return whether there is a key."""
        return self._newest is not None

    @property
    def newest(self) -> bytes:
        """Return how everything begins that was sealed with the newest key.

        Raises:
            NotConfigured: there is no key.
        """
        if self._newest is None:
            raise NotConfigured(
                "accounts cannot be kept here", hint=f"The operator sets {VARIABLE}"
            )
        return self._newest

    def seal(self, plain: bytes, *, place: Sequence[str]) -> bytes:
        """Return what only `open` with the same place makes readable again.

        Raises:
            NotConfigured: there is no key.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self.newest + nonce + self._ciphers[self.newest].encrypt(nonce, plain, _bound(place))

    def open(self, sealed: bytes, *, place: Sequence[str]) -> bytes:
        """Return what was sealed.

        Raises:
            Unreadable: no key of ours sealed this for this place.
        """
        key_id, nonce = sealed[:_ID_BYTES], sealed[_ID_BYTES : _ID_BYTES + _NONCE_BYTES]
        cipher = self._ciphers.get(key_id)
        if cipher is None or len(nonce) != _NONCE_BYTES:
            raise Unreadable
        try:
            return cipher.decrypt(nonce, sealed[_ID_BYTES + _NONCE_BYTES :], _bound(place))
        except InvalidTag:
            raise Unreadable from None


def _bound(place: Sequence[str]) -> bytes:
    # Lengths first, so that no two places read the same.
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in place)


def _key(text: str) -> bytes:
    return hmac.digest(text.encode(), b"fleet credentials", "sha256")


def _key_id(text: str) -> bytes:
    return hashlib.sha256(b"kid" + _key(text)).digest()[:_ID_BYTES]
