"""What a service's API document has to be before it is merged."""

from typing import Any, Final

from gateway.portal.references import Document

_DEEPEST: Final = 100
_VALUES_MAX: Final = 100_000
_PATHS_MAX: Final = 2000  # of
_PATH_MAX: Final = 1024  # characters


def refusal(document: object) -> str:
    """Why this cannot be a part of the merged document; empty if it can."""
    if not isinstance(document, dict):
        return "it is not a JSON object"
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith("3.1."):
        return "it is not OpenAPI 3.1"
    if not _is_nested(document.get("paths", {}), 2) or not _is_nested(document.get("components", {}), 2):
        return "its paths or components are not objects"
    paths = document.get("paths", {})
    if len(paths) > _PATHS_MAX or any(len(path) > _PATH_MAX for path in paths):
        return f"it has more than {_PATHS_MAX} paths, or one of more than {_PATH_MAX} characters"
    return _too_much(document)


def _too_much(document: Document) -> str:
    """Why it is too deep or too large to be read by every step of the merge."""
    below: list[Any] = [document]
    count = 0
    for _ in range(_DEEPEST):
        inner = [
            one.values() if isinstance(one, dict) else one for one in below if isinstance(one, dict | list)
        ]
        if not inner:
            return ""
        count += sum(map(len, inner))
        if count > _VALUES_MAX:
            return f"it has more than {_VALUES_MAX} values"
        below = [one for many in inner for one in many]
    return f"it is nested more than {_DEEPEST} deep"


def _is_nested(value: object, levels: int) -> bool:
    if not isinstance(value, dict):
        return False
    return levels == 1 or all(_is_nested(inner, levels - 1) for inner in value.values())
