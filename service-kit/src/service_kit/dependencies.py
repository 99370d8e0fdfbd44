"""FastAPI dependencies: who calls, and whether they may."""

from collections.abc import Awaitable, Callable, Collection

from fastapi import Request

from service_kit.tokens import Caller


async def get_current_user(request: Request) -> Caller:
    """The caller by a consumer's bearer token; 401, or 503 when that cannot be told."""
    raise NotImplementedError


def require(*, scopes: Collection[str] = (), roles: Collection[str] = ()) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller has all of `scopes` and any one of `roles`, else 403."""
    raise NotImplementedError


def get_service_caller(scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency for /internal: the caller by a service token for this service that carries `scope`."""
    raise NotImplementedError
