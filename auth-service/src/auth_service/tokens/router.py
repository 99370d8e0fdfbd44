"""The OAuth endpoints: token (RFC 6749), revoke (7009), introspect (7662), metadata (8414); forward-auth."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from auth_service.clients.dependencies import ConfidentialRequest, OAuthRequest
from auth_service.clients.exceptions import InvalidClient, UnauthorizedClient
from auth_service.config import SCOPE
from auth_service.exceptions import InvalidRequest, InvalidScope
from auth_service.forms import form_schema
from auth_service.keys.exceptions import KeysUnavailable
from auth_service.sessions.exceptions import RefreshTokenInvalid, RefreshTokenReused, SessionEnded
from auth_service.store import StoreUnavailable
from auth_service.throttle.devices import LIFETIME
from auth_service.throttle.exceptions import TooManyAttempts
from auth_service.tokens.dependencies import (
    DEVICE_COOKIE,
    DEVICE_HEADER,
    TheIntrospection,
    TheTokens,
    device_of,
)
from auth_service.tokens.exceptions import (
    AccountInactive,
    CredentialsChanged,
    InvalidCredentials,
    InvalidTarget,
    UnsupportedGrantType,
    WrongClient,
)
from auth_service.tokens.introspection import claims_of, headers_of
from auth_service.tokens.models import Grant, SignIn
from auth_service.tokens.schemas import IntrospectionResponse, Metadata, TokenResponse
from auth_service.users.exceptions import UsersUnavailable
from service_kit.departures import while_connected
from service_kit.dependencies import (
    InsufficientRole,
    InsufficientScope,
    VerificationUnavailable,
    admit,
    get_current_user,
)
from service_kit.document import refusals
from service_kit.tokens import Caller

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
OF_ANY_GRANT = (InvalidRequest, InvalidClient, StoreUnavailable)
# A refusal names what was asked for, in a header.
Scope = Annotated[str, Field(pattern=rf"^{SCOPE.pattern}$")]

router = APIRouter(tags=["oauth"])


@router.post(
    "/auth/token",
    summary="Sign in, renew, or get a client's own token",
    response_model=TokenResponse,
    responses=refusals(
        *OF_ANY_GRANT,
        UnsupportedGrantType,
        UnauthorizedClient,
        InvalidScope,
        InvalidTarget,
        InvalidCredentials,
        RefreshTokenInvalid,
        RefreshTokenReused,
        SessionEnded,
        AccountInactive,
        CredentialsChanged,
        WrongClient,
        TooManyAttempts,
        KeysUnavailable,
        UsersUnavailable,
    ),
    openapi_extra=form_schema(
        ["grant_type"],
        {
            "grant_type": "password, refresh_token or client_credentials",
            "username": "The e-mail address (password)",
            "password": "The password (password)",
            "refresh_token": "The refresh token (refresh_token)",
            "scope": "Scopes, separated by spaces; all that are granted if absent",
            "audience": "The service that the token is for (client_credentials)",
            "client_id": "first-party if absent",
            "client_secret": "A confidential client's secret; or use HTTP Basic",
        },
    ),
)
async def token(request: Request, client_request: OAuthRequest, tokens: TheTokens) -> Response:
    client, scope, context = client_request.client, client_request.form.get("scope"), client_request.context
    match client_request.required("grant_type"):
        case "password":
            credentials = SignIn(
                client_request.required("username"), client_request.required("password"), device_of(request)
            )
            grant = await tokens.sign_in(
                client, credentials, scope, context, partial(while_connected, request)
            )
        case "refresh_token":
            grant = await tokens.renew(client, client_request.required("refresh_token"), scope, context)
        case "client_credentials":
            grant = await tokens.issue_to_client(client, scope, client_request.form.get("audience"), context)
        case _:
            raise UnsupportedGrantType
    return _response(grant, request)


@router.post(
    "/auth/revoke",
    summary="Sign out: end the session that a token belongs to",
    response_class=Response,
    responses=refusals(*OF_ANY_GRANT, WrongClient, VerificationUnavailable),
    openapi_extra=form_schema(
        ["token"],
        {
            "token": "A refresh token or an access token",
            "token_type_hint": "Not needed: the two look different",
            "client_id": "first-party if absent",
            "client_secret": "A confidential client's secret; or use HTTP Basic",
        },
    ),
)
async def revoke(
    client_request: OAuthRequest, tokens: TheTokens, introspection: TheIntrospection
) -> Response:
    text, ended = client_request.required("token"), {}
    if text.count(".") == 2:
        verdict = await introspection.verdict(text, client_request.client.audiences)
        if isinstance(verdict, Caller):
            ended = await tokens.revoke_access_token(client_request.client, verdict, client_request.context)
        elif verdict.code == "session_revoked" and verdict.caller is not None:
            ended = await tokens.revoke_again(verdict.caller.session_id)
    else:
        ended = await tokens.revoke_refresh_token(client_request.client, text, client_request.context)
    return Response(headers=NO_STORE | ended)


@router.post(
    "/auth/introspect",
    summary="Whether an access token is good now, and what it says",
    response_model=IntrospectionResponse,
    responses=refusals(*OF_ANY_GRANT, VerificationUnavailable),
    openapi_extra=form_schema(
        ["token"],
        {
            "token": "An access token",
            "client_id": "The caller",
            "client_secret": "Its secret",
        },
    ),
)
async def introspect(client_request: ConfidentialRequest, introspection: TheIntrospection) -> Response:
    caller = await introspection.caller(client_request.required("token"), client_request.client.audiences)
    body = {"active": True, "token_type": "Bearer", **claims_of(caller)} if caller else {"active": False}
    return JSONResponse(body, headers=NO_STORE)


@router.get(
    "/auth/verify",
    summary="For an ingress: admit a request by its bearer token (nginx auth_request, Traefik, Caddy)",
    status_code=204,
    responses=refusals(InsufficientScope, InsufficientRole),
)
async def verify(
    caller: Annotated[Caller, Depends(get_current_user)],
    scope: Annotated[list[Scope], Query(description="Each one needed")] = [],  # noqa: B006 - FastAPI copies it
    role: Annotated[list[str], Query(description="Any one needed")] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    admit(caller, scope, role)
    return Response(status_code=204, headers=NO_STORE | headers_of(caller))


@router.get(
    "/.well-known/oauth-authorization-server", summary="What this server can do", response_model=Metadata
)
async def metadata(request: Request) -> JSONResponse:
    described: Metadata = request.app.state.metadata
    return JSONResponse(described.model_dump(), headers={"cache-control": "public, max-age=300"})


def describe(issuer: str, *, grant_password: bool) -> Metadata:
    """The metadata of this server as it is set up."""
    grants = ["password", "refresh_token", "client_credentials"]
    return Metadata(
        issuer=issuer,
        token_endpoint=f"{issuer}/auth/token",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        revocation_endpoint=f"{issuer}/auth/revoke",
        introspection_endpoint=f"{issuer}/auth/introspect",
        grant_types_supported=grants if grant_password else grants[1:],
    )


def _response(grant: Grant, request: Request) -> Response:
    body = {"access_token": grant.access_token, "token_type": "Bearer", "expires_in": grant.expires_in}
    if grant.refresh_token is not None:
        body["refresh_token"] = grant.refresh_token
    response = JSONResponse(body | {"scope": grant.scope}, headers=NO_STORE | grant.headers)
    if grant.device is not None:
        response.headers[DEVICE_HEADER] = grant.device
        # What another site has a browser post as a form opens a page: it takes no known device's value away.
        if request.headers.get("sec-fetch-mode") != "navigate":
            response.set_cookie(
                DEVICE_COOKIE,
                grant.device,
                LIFETIME,
                path="/auth/token",
                secure=request.app.state.issuer.startswith("https:"),
                httponly=True,
                samesite="strict",
            )
    return response
