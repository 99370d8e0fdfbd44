"""docs/refusals.md against the sources of every room: read as text, since no service imports another."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
REFUSALS = {
    "UNAUTHORIZED": "401",
    "FORBIDDEN": "403",
    "PRECONDITION_FAILED": "412",
    "TOO_MANY_REQUESTS": "429",
}


class Sources:
    """Every class of every room by its name, and every reason for which a token is refused."""

    def __init__(self) -> None:
        trees = [ast.parse(file.read_text("utf-8")) for file in ROOT.glob("*/src/**/*.py")]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        self.classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        self._by_name = {each.name: each for each in self.classes}
        self._calls = [node for node in nodes if isinstance(node, ast.Call)]

    def said(self, node: ast.ClassDef, attribute: str) -> str | None:
        """What a class, or else the nearest of its bases, says an attribute is; the last word of `A.B`."""
        if (value := _assigned(node, attribute)) is not None:
            return value
        bases = (self._by_name.get(ast.unparse(base)) for base in node.bases)
        return next((said for base in bases if base and (said := self.said(base, attribute))), None)

    def is_a(self, node: ast.ClassDef, name: str) -> bool:
        bases = (self._by_name.get(ast.unparse(base)) for base in node.bases)
        return node.name == name or any(base is not None and self.is_a(base, name) for base in bases)

    def token_refusals(self) -> Iterator[str]:
        """The first argument of TokenRefused(...), and of super().__init__(...) in what derives from it."""
        derived = [
            call for each in self.classes if self.is_a(each, "TokenRefused") for call in ast.walk(each)
        ]
        for call in self._calls:
            named = isinstance(call.func, ast.Name) and call.func.id == "TokenRefused"
            if named or (call in derived and ast.unparse(call.func) == "super().__init__"):
                yield from (str(code.value) for code in call.args[:1] if isinstance(code, ast.Constant))


def _assigned(node: ast.ClassDef, attribute: str) -> str | None:
    pairs: list[tuple[ast.expr, ast.expr]]
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            pairs = [(statement.target, statement.value)]
        elif isinstance(statement, ast.Assign):
            pairs = [pair for target in statement.targets for pair in _pairs(target, statement.value)]
        else:
            continue
        for target, value in pairs:
            if ast.unparse(target) == attribute:
                return (
                    str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value).split(".")[-1]
                )
    return None


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


def codes_in_the_sources() -> dict[str, set[str]]:
    sources = Sources()
    found: dict[str, set[str]] = {
        "401": set(sources.token_refusals()),
        "403": set(),
        "412": set(),
        "429": set(),
        "400": set(),
        "Bod": set(),
    }
    for each in sources.classes:
        status, code = sources.said(each, "status"), sources.said(each, "code")
        of_a_grant = sources.said(each, "error") == "invalid_grant"
        # "internal_error" stands for a code that is given when it is raised.
        if status in REFUSALS and code and code != "internal_error" and not of_a_grant:
            found[REFUSALS[status]].add(code)
        if code and sources.is_a(each, "UnreadableBody") and each.name != "UnreadableBody":
            found["Bod"].add(code)
        if of_a_grant and code and code != "invalid_request":
            found["400"].add(code)
    return found


def codes_on_the_page() -> dict[str, list[str]]:
    page = (ROOT / "docs" / "refusals.md").read_text("utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    return {section[:3]: re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) for section in sections}


def test_every_refusal_in_the_code_is_explained_on_the_page_and_no_other() -> None:
    page = codes_on_the_page()
    assert {status: set(codes) for status, codes in page.items()} == codes_in_the_sources()
    assert all(len(codes) == len(set(codes)) for codes in page.values())


def test_each_line_says_what_happened_and_what_to_do_next() -> None:
    page = (ROOT / "docs" / "refusals.md").read_text("utf-8")
    lines = re.findall(r"^\| `\w+` \|.*$", page, re.MULTILINE)
    assert len(lines) == sum(map(len, codes_on_the_page().values()))
    for line in lines:
        assert re.fullmatch(r"\| `\w+` \| [^|]*\w{3}[^|]* \| [^|]*\w{3}[^|]* \|", line), line


def test_the_sources_are_really_read() -> None:
    found = codes_in_the_sources()
    assert {"token_expired", "unknown_key", "session_revoked", "invalid_client"} <= found["401"]
    assert {"insufficient_scope", "wrong_password"} <= found["403"]
    assert "refresh_token_reused" in found["400"]


def test_no_route_refuses_with_a_bare_number() -> None:
    for file in ROOT.glob("*/src/**/*.py"):
        assert not re.search(r"status_code=40[13]|HTTPException\(40[13]", file.read_text("utf-8")), file
