"""The public keys, for whoever verifies our tokens (RFC 7517)."""

import hashlib
import json
import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from auth_service.keys.dependencies import Keys

router = APIRouter(tags=["keys"])


class JwkSet(JSONResponse):
    media_type = "application/jwk-set+json"


@router.get(
    "/.well-known/jwks.json",
    summary="The public keys that verify our tokens",
    response_class=JwkSet,
    responses={304: {"description": "These are the keys that If-None-Match names"}},
)
async def jwks(request: Request, keys: Keys) -> Response:
    body = json.dumps(await keys.jwks()).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": f"public, max-age={keys.policy.jwks_lifetime}", "etag": etag}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=JwkSet.media_type, headers=headers)


def _names(condition: str, etag: str) -> bool:
    """Whether an If-None-Match names the entity tag, by the weak comparison (RFC 9110 section 13.1.2)."""
    return condition.strip() == "*" or etag in re.findall(r'"[^"]*"', condition)
