"""How both Python peers check a token: PyJWT each time, as tutorials do, with the key in memory."""

import os
from pathlib import Path
from typing import Annotated, Any, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

ISSUER = os.environ["ISSUER"]
KEY = cast("EllipticCurvePublicKey", load_pem_public_key(Path(os.environ["PUBLIC_KEY"]).read_bytes()))


async def claims(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> dict[str, Any]:
    try:
        return jwt.decode(bearer.credentials, KEY, algorithms=["ES256"], audience=ISSUER, issuer=ISSUER)
    except jwt.InvalidTokenError as refused:
        raise HTTPException(401, "invalid token") from refused
