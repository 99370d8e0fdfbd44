"""Access tokens as JWS (RFC 7515, 9068): signed by one key, whose part of every token is made once."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import ECAlgorithm

_es256 = ECAlgorithm(ECAlgorithm.SHA256)
_json = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True)
class Signer:
    kid: str
    private: EllipticCurvePrivateKey

    def sign(self, claims: Mapping[str, Any]) -> str:
        """An access token of these claims (RFC 9068)."""
        signed = self._header + _base64url(_json.encode(claims).encode())
        return (signed + b"." + _base64url(_es256.sign(signed, self.private))).decode("ascii")

    @cached_property
    def _header(self) -> bytes:
        return _base64url(_json.encode({"alg": "ES256", "typ": "at+jwt", "kid": self.kid}).encode()) + b"."


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
