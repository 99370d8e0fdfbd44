"""Private keys at rest: made, sealed under the key-encryption key, and opened again."""

import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm

from auth_service.keys.exceptions import SealUnknown
from auth_service.keys.models import Key


class Sealer:
    """Seals under the first key-encryption key, opens under each: two while one replaces the other."""

    def __init__(self, key_encryption_keys: Sequence[bytes]) -> None:
        self._ciphers = [
            AESGCM(HKDF(SHA256(), 32, salt=None, info=b"auth-service key ring").derive(key))
            for key in key_encryption_keys
        ]

    def new_key(self, now: int) -> Key:
        private = ec.generate_private_key(ec.SECP256R1())
        jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        kid = secrets.token_hex(12)  # hexadecimal: a command takes no kid for an option
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return Key(kid, jwk["x"], jwk["y"], self._seal(kid, der), published_at=now)

    def open(self, key: Key) -> ec.EllipticCurvePrivateKey:
        private = load_der_private_key(self._unseal(key)[1], password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return private

    def resealed(self, key: Key) -> str | None:
        """The key under the first key-encryption key, if it is not already."""
        sealed_under, der = self._unseal(key)
        return self._seal(key.kid, der) if sealed_under else None

    def _seal(self, kid: str, der: bytes) -> str:
        nonce = os.urandom(12)
        # The kid is authenticated too, so that one key's secret cannot be put under another's name.
        return b64encode(nonce + self._ciphers[0].encrypt(nonce, der, kid.encode())).decode()

    def _unseal(self, key: Key) -> tuple[int, bytes]:
        for index, cipher in enumerate(self._ciphers):
            with suppress(InvalidTag, ValueError):  # by the cipher, by Base64 or for want of bytes
                blob = b64decode(key.sealed)
                return index, cipher.decrypt(blob[:12], blob[12:], key.kid.encode())
        raise SealUnknown
