"""The public keys, for whoever verifies our tokens (RFC 7517)."""

import hashlib
import json

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from auth_service.keys.dependencies import Keys
from auth_service.keys.exceptions import KeysUnavailable
from service_kit.document import refusals
from service_kit.preconditions import etag, is_known

router = APIRouter(tags=["keys"])


class JwkSet(JSONResponse):
    media_type = "application/jwk-set+json"


@router.get(
    "/.well-known/jwks.json",
    summary="The public keys that verify our tokens",
    response_class=JwkSet,
    responses=refusals(KeysUnavailable)
    | {304: {"description": "These are the keys that If-None-Match names"}},
)
async def jwks(request: Request, keys: Keys) -> Response:
    body = json.dumps(await keys.jwks()).encode()
    version = hashlib.sha256(body).hexdigest()[:32]
    headers = {"cache-control": f"public, max-age={keys.policy.jwks_lifetime}", "etag": etag(version)}
    if is_known(request.headers.get("if-none-match"), version):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=JwkSet.media_type, headers=headers)
