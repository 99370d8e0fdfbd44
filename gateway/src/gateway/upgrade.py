"""Which requests may switch to WebSocket, and from which origins."""

from http import HTTPStatus

from gateway.callers import other_subprotocols
from gateway.passage import Passage
from service_kit.problems import Problem


class OriginRefused(Problem):
    status, code, title = HTTPStatus.FORBIDDEN, "origin_refused", "This origin may not open a WebSocket here"


def consider(passage: Passage) -> None:
    """Marks a request that may switch to WebSocket; any other Upgrade is dropped and the request goes on without."""
    head, others = passage.head, passage.head.others
    if b"websocket" not in head.upgrade or not (
        passage.route.websocket
        and head.method == b"GET"
        and head.http11
        and not head.has_body
        and head.value(b"sec-websocket-version") == b"13"
        and head.value(b"sec-websocket-key")
    ):
        return
    origin = head.value(b"origin")
    if b"origin" in others and (origin is None or not _same_or_listed(passage, origin)):
        raise OriginRefused
    passage.upgrading = True
    passage.subprotocols = other_subprotocols(head)


def _same_or_listed(passage: Passage, origin: bytes) -> bool:
    if origin == passage.scheme + b"://" + passage.head.host:
        return True
    cors = passage.route.cors
    return cors is not None and origin.decode("latin-1") in cors.origins
