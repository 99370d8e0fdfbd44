"""FastAPI dependencies: who calls, and whether they may."""

import time
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Request, Security
from fastapi.openapi.models import OAuth2 as OAuth2Model
from fastapi.openapi.models import OAuthFlowPassword, OAuthFlows
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase

from service_kit.authenticator import Authenticator
from service_kit.bearer import bearer_token, challenge
from service_kit.problems import Problem
from service_kit.tokens import CANNOT_VERIFY, REFUSED, Caller, CannotVerify, TokenRefused, Verifier

_FORM = "application/x-www-form-urlencoded"
_LONGEST_FORM = 64 * 1024


class NotAuthenticated(Problem):
    """No credentials: 401 without an error code (RFC 6750, section 3.1)."""

    status, code, title = HTTPStatus.UNAUTHORIZED, "not_authenticated", "Authentication needed"
    detail = "Send `Authorization: Bearer` with an access token from `POST /auth/token`."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": challenge()})


class InvalidToken(Problem):
    """The token was refused; the code says why."""

    status, title = HTTPStatus.UNAUTHORIZED, "Access token not accepted"
    codes = REFUSED

    def __init__(self, refused: TokenRefused) -> None:
        header = challenge("invalid_token", refused.detail)
        super().__init__(refused.detail, code=refused.code, headers={"WWW-Authenticate": header})


class AmbiguousCredentials(Problem):
    """More than one way to say who calls (RFC 6750, section 2)."""

    status, code, title = (
        HTTPStatus.BAD_REQUEST,
        "invalid_request",
        "The token was not sent in exactly one accepted way",
    )
    detail = "Send the token in the `Authorization` header, once, and nowhere else."

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": challenge("invalid_request", detail)})


class InsufficientScope(Problem):
    """The client was not granted what this needs."""

    status, code, title = HTTPStatus.FORBIDDEN, "insufficient_scope", "The token lacks a scope"
    detail = "Ask for the scope that `WWW-Authenticate` names. An operator grants it to the client."

    def __init__(self, scopes: Collection[str]) -> None:
        scope = " ".join(sorted(scopes))
        header = challenge("insufficient_scope", "The token lacks a scope.", scope)
        super().__init__(
            f"The route needs: {scope}. An operator grants it to the client.",
            headers={"WWW-Authenticate": header},
            scope=scope,
        )


class InsufficientRole(Problem):
    """The person may not do this, whatever the client was granted."""

    status, code, title = HTTPStatus.FORBIDDEN, "insufficient_role", "The caller lacks a role"
    detail = "Ask an administrator for the role, then refresh: roles travel in the token."


class InsufficientAuthentication(Problem):
    """The person signed in too long ago for this (RFC 9470); signing in again helps, refreshing does not."""

    status, code = HTTPStatus.UNAUTHORIZED, "insufficient_user_authentication"
    title = "A recent sign-in is needed"
    detail = "Sign in again: a refresh keeps the time of the sign-in."

    def __init__(self, max_age: int) -> None:
        detail = f"The sign-in must be at most {max_age} seconds old."
        header = challenge(self.code, detail, max_age=max_age)
        super().__init__(detail, headers={"WWW-Authenticate": header}, max_age=max_age)


class VerificationUnavailable(Problem):
    """Nothing can be said about any token now."""

    status, title = HTTPStatus.SERVICE_UNAVAILABLE, "Tokens cannot be verified now"
    codes = CANNOT_VERIFY

    def __init__(self, cannot: CannotVerify) -> None:
        super().__init__(code=cannot.code, headers={"Retry-After": "1"})


class CurrentUser(SecurityBase):
    """The caller by a consumer's bearer token; 401, or 503 when that cannot be told.

    `Security(get_current_user, scopes=["orders:read"])` also demands the scopes, else 403. The service's OpenAPI
    document lists them.
    """

    def __init__(self) -> None:
        flow = OAuthFlowPassword(tokenUrl="/auth/token", refreshUrl="/auth/token")
        self.model = OAuth2Model(flows=OAuthFlows(password=flow))
        self.scheme_name = "oauth2"

    async def __call__(self, request: Request, needed: SecurityScopes) -> Caller:
        """The verified caller."""
        caller = await _identify(request, _authenticator(request).verifier)
        _check_scopes(caller, needed.scopes)
        return caller


get_current_user = CurrentUser()


def require(
    *, scopes: Collection[str] = (), roles: Collection[str] = (), max_age: int | None = None
) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller has all of `scopes` and any one of `roles`, else 403.

    With `max_age`, the sign-in is also at most so many seconds old, else RFC 9470's 401.
    """

    async def permitted(caller: Annotated[Caller, Security(get_current_user, scopes=list(scopes))]) -> Caller:
        admit(caller, scopes, roles, max_age)
        return caller

    return permitted


def admit(
    caller: Caller, scopes: Collection[str], roles: Collection[str], max_age: int | None = None
) -> None:
    """What `require` asks, of a caller who is known already."""
    _check_scopes(caller, scopes)
    if roles and caller.roles.isdisjoint(roles):
        raise InsufficientRole
    # A client's own token has no auth_time: nobody signed in.
    if max_age is not None and (caller.auth_time is None or time.time() - caller.auth_time > max_age):
        raise InsufficientAuthentication(max_age)


def _check_scopes(caller: Caller, scopes: Collection[str]) -> None:
    if not all(map(caller.has_scope, scopes)):
        raise InsufficientScope(scopes)


def get_service_caller(scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency for /internal: the caller by a service token for this service that carries `scope`."""

    async def permitted(request: Request) -> Caller:
        caller = await _identify(request, _authenticator(request).service_verifier)
        # Not has_scope: no wildcard opens an internal door.
        if scope not in caller.scopes:
            raise InsufficientScope([scope])
        return caller

    return permitted


def _authenticator(request: Request) -> Authenticator:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


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
