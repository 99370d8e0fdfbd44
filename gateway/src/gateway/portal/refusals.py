"""The gateway's own refusals in the merged document: which of them an operation can meet, and every one of them once."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

from gateway.http1 import head
from gateway.policy.authentication import CannotTell, Unauthorized
from gateway.policy.rate_limits import AddressLimited, RouteLimited
from gateway.policy.websocket import OriginRefused
from gateway.portal.references import COMPONENTS, Document
from gateway.routing.media_types import MediaTypeUnsupported, NotAcceptable
from gateway.routing.routes import NoRoute, Route
from gateway.upstream.exceptions import (
    BadGateway,
    BreakerOpen,
    GatewayTimeout,
    Overloaded,
    RequestTimeout,
    Unavailable,
)
from service_kit.dependencies import AmbiguousCredentials, InsufficientRole, InsufficientScope, InvalidToken
from service_kit.document import PROBLEM_SCHEMA, join, refusals, share_examples
from service_kit.exception_handlers import MethodNotAllowed
from service_kit.problems import Problem

_RESPONSES: Final[dict[str, tuple[str, tuple[type[Problem], ...]]]] = {
    "BadRequest": (
        "The request, or the token in it, was not sent in exactly one accepted way.",
        (head.BadRequest, head.AmbiguousPath, head.LengthUnclear, AmbiguousCredentials),
    ),
    "Unauthorized": (
        "No token, or one that is not accepted; `WWW-Authenticate` says which.",
        (Unauthorized, InvalidToken),
    ),
    "Forbidden": (
        "The token lacks a scope, or the caller a role.",
        (InsufficientScope, InsufficientRole, OriginRefused),
    ),
    "NotFound": ("Nothing is served at this path.", (NoRoute,)),
    "MethodNotAllowed": ("`Allow` lists the methods of the path.", (MethodNotAllowed,)),
    "NotAcceptable": ("The route gives none of the accepted media types.", (NotAcceptable,)),
    "RequestTimeout": ("The body did not arrive in time.", (RequestTimeout,)),
    "ContentTooLarge": ("The body is larger than this route takes.", (head.BodyTooLarge,)),
    "UriTooLong": ("Path and query are too long.", (head.TargetTooLong,)),
    "UnsupportedMediaType": (
        "The route does not take this media type; `Accept` lists those that it takes.",
        (MediaTypeUnsupported,),
    ),
    "ExpectationFailed": ("Only `Expect: 100-continue` is supported.", (head.ExpectationUnknown,)),
    "TooManyRequests": ("Slow down: `Retry-After` says for how long.", (AddressLimited, RouteLimited)),
    "HeadersTooLarge": ("The headers are too many or too long.", (head.HeadTooLarge,)),
    "NotImplemented": ("A method or transfer coding that is not known.", (head.MethodUnknown, head.CodingUnknown)),
    "BadGateway": ("The service's response was malformed or cut short.", (BadGateway,)),
    "Unavailable": (
        "The service, or the check of tokens, is not available; see `Retry-After`.",
        (Unavailable, BreakerOpen, Overloaded, CannotTell),
    ),
    "GatewayTimeout": ("The service did not answer in time.", (GatewayTimeout,)),
    "LoopDetected": ("The request has passed this gateway before.", (head.LoopDetected,)),
}  # fmt: skip
_STATUS: Final = {name: str(int(kinds[0].status)) for name, (_, kinds) in _RESPONSES.items()}
_ALWAYS: Final = (
    *(
        "BadRequest",
        "UriTooLong",
        "ExpectationFailed",
        "TooManyRequests",
        "HeadersTooLarge",
        "NotImplemented",
    ),
    *("BadGateway", "Unavailable", "GatewayTimeout", "LoopDetected"),
)


def own_components() -> Document:
    """The schema of problems, a response for each status, and an example of each code."""
    responses = {}
    for name, (text, kinds) in _RESPONSES.items():
        [response] = refusals(*kinds).values()
        responses[name] = response | {"description": text}
    components: Document = {"schemas": {"Problem": PROBLEM_SCHEMA}, "responses": deepcopy(responses)}
    share_examples({"components": components})
    return components


OWN_COMPONENTS: Final = own_components()
OWN_REFERENCES: Final = [{"$ref": f"{COMPONENTS}responses/{name}"} for name in _RESPONSES]


def responses_of(operation: Document, route: Route, *, protected: bool) -> Document:
    """The operation's responses with the gateway's own, by status."""
    responses: dict[str, Any] = dict(operation.get("responses", {}))
    for name in _names(operation, route, protected=protected):
        status = _STATUS[name]
        if status not in responses:
            responses[status] = {"$ref": f"{COMPONENTS}responses/{name}"}
        elif "$ref" not in responses[status]:
            responses[status] = deepcopy(responses[status])
            join(responses[status], OWN_COMPONENTS["responses"][name])
    return dict(sorted(responses.items()))


def _names(operation: Document, route: Route, *, protected: bool) -> Iterator[str]:
    yield from _ALWAYS
    if protected:
        yield "Unauthorized"
    if route.scopes or route.roles or route.websocket:
        yield "Forbidden"
    if "requestBody" in operation:
        yield from ("RequestTimeout", "ContentTooLarge")
    if route.media is not None and route.media.produces:
        yield "NotAcceptable"
    if route.media is not None and route.media.consumes:
        yield "UnsupportedMediaType"
