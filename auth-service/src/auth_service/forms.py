"""An OAuth request's form, read one way: no duplicates, and empty means absent (RFC 6749 section 3.2)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from auth_service.exceptions import InvalidRequest
from service_kit.departures import arrive

LARGEST = 64 * 1024
# A sign-in that works as it stands once the person has registered.
EXAMPLES = {
    "grant_type": "password",
    "username": "ada@example.com",
    "password": "correct horse battery staple",
}


async def read_form(request: Request) -> Mapping[str, str]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise InvalidRequest("The body must be a form (application/x-www-form-urlencoded).")
    body = bytearray()
    await arrive()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise InvalidRequest("The form is too large.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise InvalidRequest("The form is not valid UTF-8 in percent-encoding.") from None
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise InvalidRequest("A parameter is given more than once.")
    return {name: value for name, value in pairs if value}


def form_schema(required: list[str], properties: Mapping[str, str]) -> dict[str, Any]:
    """The OpenAPI of a form that `read_form` reads, of names and descriptions."""
    schema = {
        "type": "object",
        "required": required,
        "properties": {
            name: {"type": "string", "description": text}
            | ({"examples": [EXAMPLES[name]]} if name in EXAMPLES else {})
            for name, text in properties.items()
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": schema}},
        }
    }
