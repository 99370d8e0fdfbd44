"""docs/refusals.md against the sources of every project: read as text, since no service imports another."""

import ast
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from service_kit import tokens

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    project: (ROOT / project / "contract" / "openapi.json").read_text("utf-8")
    for project in ("auth-service", "user-service", "gateway")
}
Codes = dict[int, set[str]]


class Sources:
    """Every class of the projects by its name, and every reason for which a token is refused."""

    def __init__(self, project: str = "*") -> None:
        kit = () if project == "*" else ROOT.glob("service-kit/src/**/*.py")
        own = [*ROOT.glob(f"{project}/src/**/*.py")]
        trees = {file: ast.parse(file.read_text("utf-8")) for file in (*kit, *own)}
        nodes = [node for tree in trees.values() for node in ast.walk(tree)]
        self.classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        self.own = [node for file in own for node in ast.walk(trees[file]) if isinstance(node, ast.ClassDef)]
        self._tables = {
            target: ast.literal_eval(node.value)
            for node in nodes
            if isinstance(node, ast.AnnAssign)
            and (target := ast.unparse(node.target)) in ("REFUSED", "CANNOT_VERIFY")
            and node.value is not None
        }
        self._by_name = {each.name: each for each in self.classes}
        self.problem = self._by_name["Problem"]
        self._calls = [node for node in nodes if isinstance(node, ast.Call)]

    def said(self, node: ast.ClassDef, attribute: str) -> str | None:
        """What a class, or else the nearest of its bases, says an attribute is; the last word of `A.B`."""
        if (value := _assigned(node, attribute)) is not None:
            return value
        return next((said for base in self._bases(node) if (said := self.said(base, attribute))), None)

    def is_a(self, node: ast.ClassDef, name: str) -> bool:
        return node.name == name or any(self.is_a(base, name) for base in self._bases(node))

    def _bases(self, node: ast.ClassDef) -> list[ast.ClassDef]:
        """Those that are ours; a class of the standard library may have the name of one here."""
        found = (self._by_name.get(ast.unparse(base)) for base in node.bases)
        return [base for base in found if base is not None and not self._is_circle(node, base)]

    def _is_circle(self, node: ast.ClassDef, base: ast.ClassDef) -> bool:
        """Whether the names lead back: then one of them is meant to be somebody else's class."""
        seen, waiting = set[str](), [base.name]
        while waiting:
            name = waiting.pop()
            if name == node.name:
                return True
            if name in self._by_name and name not in seen:
                seen.add(name)
                waiting += [ast.unparse(each) for each in self._by_name[name].bases]
        return False

    def codes(self, node: ast.ClassDef) -> Iterator[str]:
        """Those of a class that is raised; "internal_error" stands for one that only its subclasses have."""
        if (table := self.said(node, "codes")) in self._tables:
            yield from self._tables[table]
        elif (code := self.said(node, "code")) and (code != "internal_error" or node.name == "Problem"):
            yield code

    def refusals(self) -> Iterator[ast.ClassDef]:
        return (each for each in self.own if self.is_a(each, "Problem") or self.is_a(each, "OAuthError"))

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


def codes_in_the_sources(project: str = "*") -> Codes:
    sources = Sources(project)
    found: Codes = {}
    for each in sources.refusals():
        status = HTTPStatus[sources.said(each, "status") or ""]
        found.setdefault(status, set()).update(sources.codes(each))
    return {status: codes for status, codes in found.items() if codes}


def codes_in_the_document(project: str) -> Codes:
    """By the enum of each response, of operations and of none."""
    document = json.loads(DOCUMENTS[project])
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    found: Codes = {}
    for name, example in document["components"]["examples"].items():
        assert name.endswith(f".{example['value']['code']}")
    for holder in (*operations, document["components"]):
        for response in holder.get("responses", {}).values():
            for content in response.get("content", {}).values():
                for code, shared in content.get("examples", {}).items():
                    assert code in content["schema"]["allOf"][1]["properties"]["code"]["enum"]
                    value = document["components"]["examples"][shared["$ref"].rpartition("/")[2]]["value"]
                    status = value.get("status") or STATUS_OF_GRANT.get(code, 400)
                    found.setdefault(status, set()).add(code)
    return found


STATUS_OF_GRANT = {
    "invalid_client": 401,
    "too_many_attempts": 429,
}  # OAuth's own JSON does not say its status


def codes_on_the_page() -> dict[str, list[str]]:
    page = (ROOT / "docs" / "refusals.md").read_text("utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    return {section[:3]: re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) for section in sections}


def test_every_refusal_in_the_code_is_explained_on_the_page_and_no_other() -> None:
    page = codes_on_the_page()
    assert {int(status): set(codes) for status, codes in page.items()} == codes_in_the_sources()
    assert all(len(codes) == len(set(codes)) for codes in page.values())


@pytest.mark.parametrize("project", DOCUMENTS)
def test_every_refusal_of_a_service_stands_in_its_document_with_an_example(project: str) -> None:
    document = codes_in_the_document(project)
    missing = {
        status: left
        for status, codes in codes_in_the_sources(project).items()
        if (left := codes - document.get(status, set()))
    }
    assert missing == {}


def test_every_refusal_of_the_kit_stands_in_the_documents_of_the_services() -> None:
    documents = [codes_in_the_document(project) for project in ("auth-service", "user-service")]
    for status, codes in codes_in_the_sources("service-kit").items():
        assert codes <= set().union(*(each.get(status, set()) for each in documents)), status


def test_every_problem_says_what_happened_and_then_what_to_do_next() -> None:
    sources = Sources()
    for each in sources.refusals():
        if sources.is_a(each, "Problem"):
            title, detail = sources.said(each, "title"), sources.said(each, "detail")
            if [*sources.codes(each)] and sources.said(each, "codes") == "{}":
                assert re.fullmatch(r"[A-Z].*[^.]", title or ""), each.name
                assert re.fullmatch(r"[A-Z`].*[.]", detail or ""), each.name
                assert each.name == "Problem" or detail != sources.said(sources.problem, "detail"), each.name


def test_every_reason_against_a_token_has_its_words() -> None:
    sources = Sources()
    assert set(sources.token_refusals()) == set(tokens.REFUSED)


def test_each_line_says_what_happened_and_what_to_do_next() -> None:
    page = (ROOT / "docs" / "refusals.md").read_text("utf-8")
    lines = re.findall(r"^\| `\w+` \|.*$", page, re.MULTILINE)
    assert len(lines) == sum(map(len, codes_on_the_page().values()))
    for line in lines:
        assert re.fullmatch(r"\| `\w+` \| [^|]*\w{3}[^|]* \| [^|]*\w{3}[^|]* \|", line), line


def test_the_sources_are_really_read() -> None:
    found = codes_in_the_sources()
    assert {"token_expired", "unknown_key", "session_revoked", "invalid_client"} <= found[401]
    assert {"insufficient_scope", "wrong_password"} <= found[403]
    assert "refresh_token_reused" in found[400]
    assert {"no_route", "user_not_found"} <= found[404]


def test_no_route_refuses_with_a_bare_number() -> None:
    for file in ROOT.glob("*/src/**/*.py"):
        assert not re.search(r"status_code=40[13]|HTTPException\(40[13]", file.read_text("utf-8")), file
