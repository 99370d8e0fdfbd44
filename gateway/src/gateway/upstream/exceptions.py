"""Why a service gave no answer, or none that can be passed on."""

from http import HTTPStatus

from service_kit.problems import Problem


class Unavailable(Problem):
    status, code, title = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "upstream_unavailable",
        "The service cannot be reached",
    )
    detail = "Wait as long as `Retry-After` says."


class BreakerOpen(Problem):
    status, code, title = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "upstream_down",
        "The service does not answer at present",
    )
    detail = "Wait as long as `Retry-After` says."


class Overloaded(Problem):
    status, code, title = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded",
        "Too many requests wait for the service",
    )
    detail = "Wait as long as `Retry-After` says."


class BadGateway(Problem):
    status, code, title = (
        HTTPStatus.BAD_GATEWAY,
        "bad_gateway",
        "The service's response was cut short or malformed",
    )
    detail = "The request may have been carried out, or not. Check before you repeat it."


class GatewayTimeout(Problem):
    status, code, title = HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout", "The service did not answer in time"
    detail = "The request may still be carried out. Check before you repeat it."


class RequestTimeout(Problem):
    status, code, title = (
        HTTPStatus.REQUEST_TIMEOUT,
        "request_timeout",
        "The rest of the request did not arrive",
    )
    detail = "Send the whole body, without long pauses."
