"""Which requests may switch to WebSocket, and from which origins."""

from http import HTTPStatus

from gateway import origins
from gateway.callers import other_subprotocols
from gateway.origins import Origin
from gateway.passage import Passage
from service_kit.problems import Problem


class OriginRefused(Problem):
    status, code, title = HTTPStatus.FORBIDDEN, "origin_refused", "This origin may not open a WebSocket here"
    detail = "An operator adds the origin to the route."


def consider(passage: Passage, public: Origin | None) -> None:
    """Marks a request that may switch to WebSocket; any other Upgrade is dropped and the request goes on without.

    `public` is the origin under which callers know the gateway, whatever its proxies say.
    """
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
    if b"origin" in others and not _same_or_listed(passage, public):
        raise OriginRefused
    passage.upgrading = True
    passage.subprotocols = other_subprotocols(head)


def _same_or_listed(passage: Passage, public: Origin | None) -> bool:
    origin = origins.parse(passage.head.value(b"origin") or b"")
    if origin is None:
        return False
    if origin in (public, origins.parse(passage.scheme + b"://" + passage.head.host)):
        return True
    cors = passage.route.cors
    return cors is not None and cors.lists(origin)
