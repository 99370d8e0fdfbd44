"""Cross-origin answers, which are the gateway's alone: an exact allow-list a route, decided before authentication."""

from gateway.head import Head
from gateway.passage import Passage
from gateway.routes import Cors, Route


def preflight_for(head: Head) -> bytes | None:
    """The method that a preflight asks about, whose route decides; None for any other request.

    The gateway answers it by itself, and it never needs a token.
    """
    if head.method != b"OPTIONS" or b"origin" not in head.others:
        return None
    asked = head.others.get(b"access-control-request-method")
    return asked[0] if asked else None


def fields_for(passage: Passage) -> bytes:
    """The CORS fields of any answer of this route, errors included; of a preflight's, what the origin may send."""
    if passage.preflight:
        return _preflight_fields(passage.route, passage.head)
    cors = passage.route.cors
    return _fields(cors, passage.head) if cors is not None else b""


def _fields(cors: Cors, head: Head) -> bytes:
    origin = _allowed(cors, head)
    if origin is None:
        return b"Vary: Origin"
    lines = [b"Vary: Origin", b"Access-Control-Allow-Origin: " + origin]
    if cors.credentials:
        lines.append(b"Access-Control-Allow-Credentials: true")
    if cors.expose:
        lines.append(b"Access-Control-Expose-Headers: " + ", ".join(cors.expose).encode())
    return b"\r\n".join(lines)


def _preflight_fields(route: Route, head: Head) -> bytes:
    """Only Vary when this origin may send nothing."""
    cors = route.cors
    origin = _allowed(cors, head) if cors is not None else None
    if cors is None or origin is None:
        return b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    return b"\r\n".join(
        (
            _fields(cors, head),
            b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers",
            b"Access-Control-Allow-Methods: " + ", ".join(sorted(route.methods)).encode(),
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
    return origin if origin.decode("latin-1") in cors.origins else None
