"""An issuer of access tokens with keys of its own."""

import base64
import json
import secrets
import time
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from service_kit.jwks import public_jwk

_es256 = ECAlgorithm(ECAlgorithm.SHA256)


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class TestIssuer:
    """Signs what it is told to, right or wrong."""

    __test__ = False  # pytest must not collect it for its name

    def __init__(self, url: str = "http://localhost:8080") -> None:
        self.url = url
        self.kid = ""
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate()

    def rotate(self) -> str:
        """Sign with a new key from now on; the older ones stay published. Returns its id."""
        self.kid = secrets.token_urlsafe(12)
        self._keys[self.kid] = ec.generate_private_key(ec.SECP256R1())
        return self.kid

    def retire(self, kid: str) -> None:
        """Publish a key no longer."""
        del self._keys[kid]

    def sign_with(self, kid: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Sign with this key from now on, as the issuer that has it would."""
        self.kid = kid
        self._keys[kid] = key

    def header(self) -> dict[str, Any]:
        """The members of an access token's header."""
        return {"alg": "ES256", "typ": "at+jwt", "kid": self.kid}

    def claims(self) -> dict[str, Any]:
        """The claims of a consumer's token, good for five minutes."""
        now = int(time.time())
        return {
            "iss": self.url,
            "aud": self.url,
            "sub": str(uuid4()),
            "client_id": "first-party",
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_urlsafe(12),
            "sid": secrets.token_urlsafe(16),
            "cv": 1,
            "scope": "*",
            "roles": [],
            "auth_time": now,
        }

    def token(self, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A consumer's token; claims and header members given replace the usual ones, None removes one."""
        return self.sign(self.header() | (header or {}), self.claims() | claims)

    def service_token(self, audience: str, scope: str, **claims: Any) -> str:
        """A service's token for `audience`."""
        usual = {
            "aud": audience,
            "sub": "client:caller",
            "client_id": "caller",
            "scope": scope,
            "cv": None,
            "roles": None,
            "auth_time": None,
        }
        return self.token(**(usual | claims))

    def sign(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """A JWS of these members, without those that are None, signed with the present key."""
        parts = [
            json.dumps({name: value for name, value in members.items() if value is not None}).encode()
            for members in (header, claims)
        ]
        return self.sign_raw(*parts)

    def sign_raw(self, header: bytes, claims: bytes) -> str:
        """A JWS of these very bytes."""
        return self.sign_text(f"{encode(header)}.{encode(claims)}")

    def sign_text(self, signed: str) -> str:
        """This very text with its signature behind it."""
        return f"{signed}.{encode(_es256.sign(signed.encode('latin-1'), self.key))}"

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The present key."""
        return self._keys[self.kid]

    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        return {"keys": [public_jwk(kid, key.public_key()) for kid, key in self._keys.items()]}

    async def fetch_keys(self) -> dict[str, Any]:
        """`jwks` as a KeyCache fetches it."""
        return self.jwks()
