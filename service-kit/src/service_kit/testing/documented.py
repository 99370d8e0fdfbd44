"""A hook of httpx: every refusal that a test meets stands in the service's document, at the operation that gave it."""

import json
import re
from pathlib import Path
from typing import Any

import httpx


class Documented:
    """`httpx.AsyncClient(event_hooks={"response": [Documented(path)]})`; paths that the document lacks pass."""

    def __init__(self, document: Path) -> None:
        paths: dict[str, Any] = json.loads(document.read_text("utf-8"))["paths"]
        # What is written out goes before a parameter.
        self._paths = [
            (re.compile(re.sub(r"{\w+}", "[^/]+", path)), paths[path])
            for path in sorted(paths, key=_parameters)
        ]

    async def __call__(self, response: httpx.Response) -> None:
        operation = self._operation(response.request)
        if response.is_success or not response.is_error or operation is None:
            return
        await response.aread()
        if not response.content:
            return
        code = response.json()["code"]
        said = operation["responses"].get(str(response.status_code), {}).get("content", {})
        listed = [name for content in said.values() for name in content.get("examples", ())]
        assert code in listed, f"{response.request.method} {response.url.path}: {response.status_code} {code}"

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        method = "get" if request.method == "HEAD" else request.method.lower()
        for path, operations in self._paths:
            if path.fullmatch(request.url.path):
                operation: dict[str, Any] | None = operations.get(method)
                return operation
        return None


def _parameters(path: str) -> int:
    return path.count("{")
