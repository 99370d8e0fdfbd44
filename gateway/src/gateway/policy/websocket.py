"""Which requests may switch to WebSocket, and from which origins."""

from http import HTTPStatus

from gateway.http1 import origins
from gateway.http1.origins import Origin
from gateway.policy.authentication import other_subprotocols
from gateway.policy.proxy_request import ProxyRequest
from service_kit.problems import Problem


class OriginRefused(Problem):
    status, code, title = HTTPStatus.FORBIDDEN, "origin_refused", "This origin may not open a WebSocket here"
    detail = "An operator adds the origin to the route."


def consider(request: ProxyRequest, public: Origin | None) -> None:
    """Marks a request that may switch to WebSocket; any other Upgrade is dropped and the request goes on without.

    `public` is the origin under which callers know the gateway, whatever its proxies say.
    """
    head, others = request.head, request.head.others
    if b"websocket" not in head.upgrade or not (
        request.route.websocket
        and head.method == b"GET"
        and head.http11
        and not head.has_body
        and head.value(b"sec-websocket-version") == b"13"
        and head.value(b"sec-websocket-key")
    ):
        return
    if b"origin" in others and not _same_or_listed(request, public):
        raise OriginRefused
    request.upgrading = True
    request.subprotocols = other_subprotocols(head)


def _same_or_listed(request: ProxyRequest, public: Origin | None) -> bool:
    origin = origins.parse(request.head.value(b"origin") or b"")
    if origin is None:
        return False
    if origin in (public, origins.parse(request.scheme + b"://" + request.head.host)):
        return True
    cors = request.route.cors
    return cors is not None and cors.lists(origin)
