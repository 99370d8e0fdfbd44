"""The signing key of a run: its public halves for peers and gateway, and tokens by the file."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

ISSUER = "https://bench.gatehouse.example"
LIFETIME = 300
KEY_ID = "bench-1"


class TokenMaker:
    def __init__(self, folder: Path) -> None:
        self._key = generate_private_key(SECP256R1())
        self._folder = folder
        public = self._key.public_key()
        folder.mkdir()
        (folder / "public.pem").write_bytes(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        key = {**ECAlgorithm.to_jwk(public, as_dict=True), "kid": KEY_ID, "use": "sig", "alg": "ES256"}
        (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))

    def token(self, session: str | None = None) -> str:
        """One access token as auth-service makes them; nobody has seen it."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": "0192f0c1-7d3e-7c55-9d3a-2f6f1c0b7a11",
            "client_id": "first-party",
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(16),
            "sid": session or secrets.token_urlsafe(16),
            "cv": 1,
            "scope": "*",
            "roles": ["member"],
            "auth_time": now,
        }
        return jwt.encode(claims, self._key, "ES256", headers={"typ": "at+jwt", "kid": KEY_ID})

    def file(self, count: int) -> Path:
        """`count` tokens, one a line; from a file of one, the load sends that token again and again."""
        path = self._folder / "tokens"
        with path.open("w") as lines:
            lines.writelines(f"{self.token()}\n" for _ in range(count))
        return path


def tokens_for_ever(path: Path) -> Iterator[str]:
    """One token without end, or each of several once."""
    tokens = path.read_text().split()
    return iter(lambda: tokens[0], None) if len(tokens) == 1 else iter(tokens)
