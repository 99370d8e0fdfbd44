"""Who is calling: the bearer token of a request, through the kit's verifier, into a caller."""

import re
from http import HTTPStatus
from typing import Final

from gateway.http1.head import Head
from gateway.http1.headers import elements
from gateway.policy.response_revocations import ResponseRevocations
from service_kit.dependencies import AmbiguousCredentials, InvalidToken
from service_kit.problems import Problem
from service_kit.tokens import (
    CANNOT_VERIFY,
    Caller,
    CannotVerify,
    KeyUnknown,
    TokenRefused,
    Verifier,
    digest_of,
)

_RETRY_AFTER: Final = {"Retry-After": "1"}
# Browsers cannot set a header on a WebSocket: there the token travels as one of the subprotocols.
SUBPROTOCOL_PREFIX: Final = b"bearer."
# The name `access_token`, with any of its characters escaped, where a parameter of a query begins.
_TOKEN_IN_QUERY: Final = re.compile(
    b"(?:^|&)" + b"".join(b"(?:%c|%%(?i:%02x))" % (char, char) for char in b"access_token") + b"(?:[=&]|$)"
)


class Unauthorized(Problem):
    status, code, title = HTTPStatus.UNAUTHORIZED, "token_required", "A bearer token is required"
    detail = "Send `Authorization: Bearer` with an access token from `POST /auth/token`."


class CannotTell(Problem):
    status, code, title = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "cannot_verify",
        "Tokens cannot be verified now",
    )
    codes = CANNOT_VERIFY


class Callers:
    """Turns the Authorization field into a Caller, in memory."""

    def __init__(self, verifier: Verifier, response_revocations: ResponseRevocations) -> None:
        self._verifier = verifier
        self._response_revocations = response_revocations

    def identify(self, head: Head, now: float) -> Caller:
        """The verified caller; a Problem when there is none, KeyUnknown when the key has to be looked for first."""
        if len(head.path) < len(head.target):
            _refuse_token_in(head.target[len(head.path) + 1 :])
        if not head.digest:
            head.bearer = _read_bearer(head)
            head.digest = digest_of(head.bearer)
        self._response_revocations.catch_up()
        try:
            return self._verifier.verify(head.bearer, now, head.digest)
        except KeyUnknown:
            raise
        except TokenRefused as refused:
            raise InvalidToken(refused) from None
        except CannotVerify as cannot:
            raise CannotTell(code=cannot.code, headers=_RETRY_AFTER) from None


def _refuse_token_in(query: bytes) -> None:
    """A query parameter may not be the token, however its name is written."""
    if _TOKEN_IN_QUERY.search(query):
        raise AmbiguousCredentials("A token in the query is refused: it would end up in logs.")


def _read_bearer(head: Head) -> bytes:
    """The one bearer token (RFC 6750); a Problem when there is none."""
    if head.authorization:
        value = head.authorization[0]
        if value[:7].lower() == b"bearer ":
            return value[7:].strip(b" ")
    elif head.upgrade and b"sec-websocket-protocol" in head.others:
        for protocol in _subprotocols(head):
            if protocol.startswith(SUBPROTOCOL_PREFIX):
                return protocol[len(SUBPROTOCOL_PREFIX) :]
    raise Unauthorized(headers={"WWW-Authenticate": "Bearer"})


def other_subprotocols(head: Head) -> bytes:
    """The offered subprotocols without the token."""
    return b", ".join(p for p in _subprotocols(head) if not p.startswith(SUBPROTOCOL_PREFIX))


def _subprotocols(head: Head) -> list[bytes]:
    return elements(head.others.get(b"sec-websocket-protocol", ()))
