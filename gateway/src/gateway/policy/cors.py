"""Cross-origin answers, which are the gateway's alone: the allow-list of a route, else of the whole gateway, decided
before anything refuses."""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.http1 import origins
from gateway.http1.head import Head
from gateway.policy.proxy_request import ProxyRequest
from gateway.routing.routes import Cors, Route, Routes, allowed, nothing_for, of_method

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"))


def choose_route(request: ProxyRequest, routes: Routes) -> None:
    """Chooses among the routes of the path, or refuses; and says what browsers are told with the answer, whoever gives
    it and whatever it is."""
    head = request.head
    methods = routes.at(head.path)
    meant = preflight_for(head) if head.method == b"OPTIONS" else None
    route = of_method(methods, meant or head.method)
    if route is not None:
        request.route = route
        if meant is not None:
            request.preflight = True
            request.response_headers = _preflight_headers(route.cors, sorted(route.methods), head)
        elif route.cors is not None:
            request.response_headers = _headers(route.cors, head)
        return
    cors = _of_path(methods, routes.cors, head)
    if meant in _METHODS and routes.cors is not None:
        # The request itself is refused: why a preflight was, no script ever learns.
        request.preflight = True
        request.response_headers = _preflight_headers(cors, (meant.decode(),), head)
        return
    request.response_headers = b"" if cors is None else _headers(cors, head)
    if head.method == b"OPTIONS" and methods and meant is None:
        request.preflight = True
        allow = b"Allow: " + allowed(methods).encode()
        request.response_headers = b"\r\n".join(filter(None, (request.response_headers, allow)))
    elif request.refusal is None:
        request.refusal = nothing_for(methods, head.path, routes)


def preflight_for(head: Head) -> bytes | None:
    """The method that a preflight asks about, whose route decides; None for any other OPTIONS.

    The gateway answers both by itself unless a route takes OPTIONS, and neither needs a token.
    """
    return head.value(b"access-control-request-method") if b"origin" in head.others else None


def _of_path(methods: Mapping[bytes, Route], default: Cors | None, head: Head) -> Cors | None:
    """Where the path has no route for the method: whoever may read any of its routes may read the refusal."""
    if not methods:
        return default
    rules = [route.cors for _, route in sorted(methods.items()) if route.cors is not None]
    return next((cors for cors in rules if _allowed(cors, head) is not None), rules[0] if rules else None)


def _headers(cors: Cors, head: Head) -> bytes:
    origin = _allowed(cors, head)
    if origin is None:
        return b"Vary: Origin"
    lines = [b"Vary: Origin", b"Access-Control-Allow-Origin: " + origin]
    if cors.credentials:
        lines.append(b"Access-Control-Allow-Credentials: true")
    if cors.expose:
        lines.append(b"Access-Control-Expose-Headers: " + ", ".join(cors.expose).encode())
    return b"\r\n".join(lines)


def _preflight_headers(cors: Cors | None, methods: Iterable[str], head: Head) -> bytes:
    """Only Vary when this origin may send nothing."""
    origin = _allowed(cors, head) if cors is not None else None
    if cors is None or origin is None:
        return b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    return b"\r\n".join(
        (
            _headers(cors, head),
            b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers",
            b"Access-Control-Allow-Methods: " + ", ".join(methods).encode(),
            b"Access-Control-Allow-Headers: " + ", ".join(cors.headers).encode(),
            b"Access-Control-Max-Age: %d" % cors.max_age_seconds,
        )
    )


def _allowed(cors: Cors, head: Head) -> bytes | None:
    origin = head.value(b"origin")
    if origin is None:
        return None
    if "*" in cors.origins:
        return b"*"
    if origin.decode("latin-1") in cors.origins:
        return origin
    parsed = origins.parse(origin)
    return origin if parsed is not None and cors.lists(parsed) else None
