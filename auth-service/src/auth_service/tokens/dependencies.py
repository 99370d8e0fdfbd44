"""What the OAuth routes are given: the grants, and introspection; and which device asks."""

from typing import Annotated

from fastapi import Depends, Request

from auth_service.tokens.introspection import Introspection
from auth_service.tokens.service import Tokens

DEVICE_COOKIE = "device"
DEVICE_HEADER = "x-device-token"


async def get_tokens(request: Request) -> Tokens:
    tokens: Tokens = request.app.state.tokens
    return tokens


async def get_introspection(request: Request) -> Introspection:
    introspection: Introspection = request.app.state.introspection
    return introspection


def device_of(request: Request) -> str | None:
    """What an earlier sign-in gave this device, by cookie or, for clients without cookies, by header."""
    return request.cookies.get(DEVICE_COOKIE) or request.headers.get(DEVICE_HEADER)


TheTokens = Annotated[Tokens, Depends(get_tokens)]
TheIntrospection = Annotated[Introspection, Depends(get_introspection)]
