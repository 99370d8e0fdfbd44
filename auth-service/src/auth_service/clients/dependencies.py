"""Which client is asking: by HTTP Basic, or by `client_id` and `client_secret` (RFC 6749 section 2.3)."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast
from urllib.parse import unquote_plus

from fastapi import Depends, Request

from auth_service import audit
from auth_service.audit import AuditContext
from auth_service.clients.exceptions import InvalidClient
from auth_service.clients.models import FIRST_PARTY, Client
from auth_service.clients.service import Clients
from auth_service.dependencies import get_audit_context
from auth_service.exceptions import InvalidRequest
from auth_service.forms import read_form


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """An OAuth request: its form, the client that proved who it is, and where it came from."""

    form: Mapping[str, str]
    client: Client
    context: AuditContext

    def required(self, name: str) -> str:
        if name not in self.form:
            raise InvalidRequest(f"The parameter {name} is missing.")
        return self.form[name]


async def read_request(request: Request) -> ClientRequest:
    """Nobody named means the first-party client, which has no secret.

    One dependency for all three: FastAPI takes longer to resolve one than any of them takes.
    """
    context, form = await get_audit_context(request), await read_form(request)
    # Without the name that it gave: that is whatever somebody typed.
    with audit.refusals("client", context=context):
        return ClientRequest(form, await _authenticated(request, form), context)


async def _authenticated(request: Request, form: Mapping[str, str]) -> Client:
    clients = cast("Clients", request.app.state.clients)
    if len(request.headers.getlist("authorization")) > 1:
        raise InvalidRequest("The client authenticates in one way only.")
    basic = _basic_credentials(request.headers.get("authorization", ""))
    named, secret = form.get("client_id"), form.get("client_secret")
    if basic is not None and basic != ("", ""):
        if secret is not None or (named is not None and named != basic[0]):
            raise InvalidRequest("The client authenticates in one way only.")
        return await clients.authenticate(basic[0], basic[1] or None)
    return await clients.authenticate(named or FIRST_PARTY.id, secret)


async def read_confidential_request(
    client_request: Annotated[ClientRequest, Depends(read_request)],
) -> ClientRequest:
    """Of a client that showed a secret, where being named is not enough."""
    with audit.refusals("client", client=client_request.client.id, context=client_request.context):
        if client_request.client.public:
            raise InvalidClient
    return client_request


def _basic_credentials(header: str) -> tuple[str, str] | None:
    """Both parts form-decoded; None where another scheme or nothing was sent."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        if not colon and name:
            raise InvalidClient
        return unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:  # no base64, no ASCII, no UTF-8
        raise InvalidClient from None


OAuthRequest = Annotated[ClientRequest, Depends(read_request)]
ConfidentialRequest = Annotated[ClientRequest, Depends(read_confidential_request)]
