"""FastAPI dependencies: who calls, and whether they may."""

from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.openapi.models import OAuth2 as OAuth2Model
from fastapi.openapi.models import OAuthFlowPassword, OAuthFlows
from fastapi.security.base import SecurityBase

from service_kit.bearer import bearer_token, challenge
from service_kit.identity import Identity
from service_kit.problems import Problem
from service_kit.tokens import Caller, CannotVerify, TokenRefused, Verifier

_FORM = "application/x-www-form-urlencoded"
_LONGEST_FORM = 64 * 1024


class NotAuthenticated(Problem):
    """No credentials: 401 without an error code (RFC 6750, section 3.1)."""

    status, code, title = HTTPStatus.UNAUTHORIZED, "not_authenticated", "Authentication needed"

    def __init__(self) -> None:
        super().__init__("Send an access token as bearer token.", headers={"WWW-Authenticate": challenge()})


class InvalidToken(Problem):
    """The token was refused; the code says why."""

    status, title = HTTPStatus.UNAUTHORIZED, "Access token not accepted"

    def __init__(self, refused: TokenRefused) -> None:
        header = challenge("invalid_token", refused.detail)
        super().__init__(refused.detail, headers={"WWW-Authenticate": header})
        self.code = refused.code


class AmbiguousCredentials(Problem):
    """More than one way to say who calls (RFC 6750, section 2)."""

    status, code, title = HTTPStatus.BAD_REQUEST, "invalid_request", "Ambiguous credentials"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": challenge("invalid_request", detail)})


class InsufficientScope(Problem):
    """The client was not granted what this needs."""

    status, code, title = HTTPStatus.FORBIDDEN, "insufficient_scope", "Insufficient scope"

    def __init__(self, scopes: Collection[str]) -> None:
        scope = " ".join(sorted(scopes))
        header = challenge("insufficient_scope", "The token lacks a scope.", scope)
        super().__init__(f"Needed: {scope}", headers={"WWW-Authenticate": header}, scope=scope)


class InsufficientRole(Problem):
    """The person may not do this, whatever the client was granted."""

    status, code, title = HTTPStatus.FORBIDDEN, "insufficient_role", "Insufficient role"


class VerificationUnavailable(Problem):
    """Nothing can be said about any token now."""

    status, title = HTTPStatus.SERVICE_UNAVAILABLE, "Tokens cannot be verified now"

    def __init__(self, cannot: CannotVerify) -> None:
        super().__init__("Try again shortly.", headers={"Retry-After": "1"})
        self.code = cannot.code


class CurrentUser(SecurityBase):
    """The caller by a consumer's bearer token; 401, or 503 when that cannot be told."""

    def __init__(self) -> None:
        flow = OAuthFlowPassword(tokenUrl="/auth/token", refreshUrl="/auth/token")
        self.model = OAuth2Model(flows=OAuthFlows(password=flow))
        self.scheme_name = "oauth2"

    async def __call__(self, request: Request) -> Caller:
        """The verified caller."""
        return await _identify(request, _identity(request).verifier)


get_current_user = CurrentUser()


def require(*, scopes: Collection[str] = (), roles: Collection[str] = ()) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller has all of `scopes` and any one of `roles`, else 403."""

    async def permitted(caller: Annotated[Caller, Depends(get_current_user)]) -> Caller:
        admit(caller, scopes, roles)
        return caller

    return permitted


def admit(caller: Caller, scopes: Collection[str], roles: Collection[str]) -> None:
    """What `require` asks, of a caller who is known already."""
    if not all(map(caller.has_scope, scopes)):
        raise InsufficientScope(scopes)
    if roles and caller.roles.isdisjoint(roles):
        raise InsufficientRole("This needs another role.")


def get_service_caller(scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency for /internal: the caller by a service token for this service that carries `scope`."""

    async def permitted(request: Request) -> Caller:
        caller = await _identify(request, _identity(request).service_verifier)
        # Not has_scope: no wildcard opens an internal door.
        if scope not in caller.scopes:
            raise InsufficientScope([scope])
        return caller

    return permitted


def _identity(request: Request) -> Identity:
    identity: Identity = request.app.state.identity
    return identity


async def _identify(request: Request, verifier: Verifier) -> Caller:
    try:
        return await verifier.identify(await _credentials(request))
    except TokenRefused as refused:
        raise InvalidToken(refused) from None
    except CannotVerify as cannot:
        raise VerificationUnavailable(cannot) from None


async def _credentials(request: Request) -> bytes:
    values = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(values) > 1:
        raise AmbiguousCredentials("There is more than one Authorization header.")
    if "access_token" in request.query_params:
        raise AmbiguousCredentials("A token in the query is refused: it would end up in logs.")
    token = bearer_token(values[0]) if values else None
    if token is None:
        raise NotAuthenticated
    if await _form_has_token(request):
        raise AmbiguousCredentials("A token came in the header and another in the form.")
    return token


async def _form_has_token(request: Request) -> bool:
    """Whether a token is in the body too (RFC 6750, section 2.2), which we do not read tokens from."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    # A form whose length is not said, or is too long to be held here, is left to the route.
    if media_type != _FORM or not length.isdecimal() or int(length) > _LONGEST_FORM:
        return False
    form = (await request.body()).decode("latin-1")
    return any(name == "access_token" for name, _ in parse_qsl(form, keep_blank_values=True))
