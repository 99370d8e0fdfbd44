"""Records that the store keeps for us and cannot make, change, or put in each other's place.

Whoever has the store's password can write there whatever they like. So what decides rights is authenticated under a
key that the store does not hold: derived from the key-encryption key, another one for each kind of record, with the
record's own id bound in. What stays possible is to delete a record, and to put back an older one with the same id.
"""

import hmac
import json
import logging
import os
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from prometheus_client import Counter

_NONCE_BYTES: Final = 12

logger = logging.getLogger(__name__)
refused = Counter("records_refused", "Records in the store that are not as we wrote them.", ["kind"])


class RecordForged(Exception):
    """The record was changed or damaged, belongs elsewhere, or was written under a key that is not given here."""


@dataclass(frozen=True, slots=True)
class Opened:
    text: str
    outdated: bool  # written under the second key, so it should be written again


class Records:
    """One kind of record: written under the first key and read under each, so that replacing a key loses none.

    `seal` and `open` are for records that we alone read; `mac` and `verify` for those whose fields scripts read too.
    """

    def __init__(self, key_encryption_keys: Sequence[bytes], kind: str) -> None:
        self._kind = kind
        self._mac_keys = [_derive(key, f"{kind} mac") for key in key_encryption_keys]
        self._ciphers = [AESGCM(_derive(key, f"{kind} seal")) for key in key_encryption_keys]
        refused.labels(kind)  # a series from the start, so that the first refusal is an increase

    def seal(self, record_id: str, text: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        return b64encode(nonce + self._ciphers[0].encrypt(nonce, text.encode(), record_id.encode())).decode()

    def open(self, record_id: str, sealed: str) -> Opened:
        """The text that was sealed for this id; raises RecordForged."""
        for index, cipher in enumerate(self._ciphers):
            with suppress(InvalidTag, ValueError):  # by the cipher, by Base64 or for want of bytes
                blob = b64decode(sealed, validate=True)
                text = cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], record_id.encode())
                return Opened(text.decode(), index > 0)
        raise self._refusal(record_id)

    def mac(self, record_id: str, fields: Mapping[str, str]) -> str:
        return _mac(self._mac_keys[0], record_id, fields)

    def verify(self, record_id: str, fields: Mapping[str, str], mac: str) -> None:
        """Raises RecordForged unless `mac` was made for these fields of this record."""
        presented = mac.encode(errors="replace")
        if not any(
            hmac.compare_digest(_mac(key, record_id, fields).encode(), presented) for key in self._mac_keys
        ):
            raise self._refusal(record_id)

    def _refusal(self, record_id: str) -> RecordForged:
        refused.labels(self._kind).inc()
        logger.error("a record of the store is not as we wrote it: %s %.64r", self._kind, record_id)
        return RecordForged(self._kind)


def _derive(key: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"auth-service record: {purpose}".encode()).derive(key)


def _mac(key: bytes, record_id: str, fields: Mapping[str, str]) -> str:
    # JSON keeps names, values and the id apart, so no two records are authenticated by one text.
    text = json.dumps([record_id, sorted(fields.items())])
    return urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")
