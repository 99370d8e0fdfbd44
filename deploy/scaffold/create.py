"""Make a new service, or a new domain package in one, out of the example that is linted and tested here."""

import builtins
import json
import keyword
import re
import shutil
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

EXAMPLE: Final = Path(__file__).parent / "example-service"
USAGE: Final = "usage: create.py service NAME | app SERVICE NAME"
MADE_BY_A_RUN: Final = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
RESERVED: Final = {"localhost", "portal", "docs", "deploy", "service", "test", "tests"}


class Refused(Exception):
    """Said in one line to whoever asked."""


def new_service(root: Path, name: str) -> None:
    """The folder NAME beside the other services: its own files, a workflow, and a line in services.yaml."""
    package = name.replace("-", "_")
    domain = package.removesuffix("_service")
    check_spelling(name, r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "orders or order-service")
    if (root / name).exists():
        raise Refused(f"{name} exists already: choose another name")
    check_modules([package, domain], EXAMPLE / "src/example_service/main.py")
    if package in sys.stdlib_module_names or package in installed_modules():
        raise Refused(f"{name} is taken: `import {package}` is a library's; choose another name")
    check_host(root, name)
    check_paths(root, domain)
    included = with_include(root / "services.yaml", f"{name}/compose.yaml")
    words = {
        "example-service": name,
        "example_service": package,
        "EXAMPLE_SERVICE": package.upper(),
        "Example service": name.replace("-", " ").capitalize(),
        "../../../service-kit": "../service-kit",
    }
    shutil.copytree(EXAMPLE, root / name, ignore=MADE_BY_A_RUN)
    rename(root / name, words | {"items": domain})
    (root / "services.yaml").write_text(included)
    workflow = (root / ".github/workflows/gateway.yml").read_text()
    (root / f".github/workflows/{name}.yml").write_text(workflow.replace("gateway", name))


def new_app(root: Path, service: str, name: str) -> None:
    """The domain package NAME in a service: its code, its tests, its routes, its place in main.py."""
    check_spelling(name, r"[a-z][a-z0-9]*(_[a-z0-9]+)*", "invoices or line_items")
    package = service.replace("-", "_")
    source = root / service / "src" / package
    main = source / "main.py"
    if not main.is_file():
        raise Refused(f"{service} is not a service here")
    if "\nROUTERS: Final = (" not in main.read_text():
        raise Refused(f"{service} has no ROUTERS in its main.py: add the package by hand")
    if (source / name).exists():
        raise Refused(f"{service} has a package {name} already: choose another name")
    check_modules([name], main)
    check_paths(root, name)
    words = {"example_service": package, "items": name}
    parts = {
        "src/example_service/items": source / name,
        "tests/test_items.py": root / service / f"tests/test_{name}.py",
        "routes/items.toml": root / service / f"routes/{name}.toml",
    }
    for place in parts.values():
        if place.exists():
            raise Refused(f"{place.relative_to(root)} exists already")
    for part, place in parts.items():
        if (EXAMPLE / part).is_dir():
            shutil.copytree(EXAMPLE / part, place, ignore=MADE_BY_A_RUN)
        else:
            shutil.copy(EXAMPLE / part, place)
        rename(place, words)
    text = main.read_text().replace("\nROUTERS: Final = (", f"\nROUTERS: Final = ({name}.router, ")
    line = f"from {package}.{name} import router as {name}\n"
    main.write_text(text.replace(f"from {package}.config ", f"{line}from {package}.config ", 1))
    rules = root / service / "pyproject.toml"
    rules.write_text(rules.read_text().replace("containers = [", f'containers = ["{package}.{name}", '))


def check_spelling(name: str, pattern: str, example: str) -> None:
    """A name is a DNS label, a folder and, with _ for -, a Python module."""
    if not re.fullmatch(pattern, name) or len(name) > 40:
        raise Refused(f"{name!r} is not a valid name: use lower-case words such as {example}")


def check_modules(names: Sequence[str], main: Path) -> None:
    """Names that Python takes, and that main.py does not use for something else."""
    with main.open("rb") as file:
        used = {token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME}
    used |= {path.stem for path in main.parent.glob("*.py")}
    taken = RESERVED | set(dir(builtins)) | used - {"items"}
    for name in names:
        if keyword.iskeyword(name) or name in taken:
            raise Refused(f"{name} is reserved: choose another name")


def installed_modules() -> set[str]:
    """The libraries of a new service, by the names of their distributions."""
    lock = tomllib.loads((EXAMPLE / "uv.lock").read_text())
    return {package["name"].replace("-", "_") for package in lock["package"]}


def check_host(root: Path, name: str) -> None:
    """A service's name is its host name among the containers."""
    for file in sorted([*root.glob("*/compose.yaml"), *root.glob("deploy/compose/*.yaml")]):
        services = re.search(r"^services:\n((?:[ #].*\n|\n)*)", file.read_text() + "\n", re.MULTILINE)
        if services and re.search(rf"^  {re.escape(name)}:", services[1], re.MULTILINE):
            raise Refused(f"{name} is taken: {file.relative_to(root)} has a container of that name")


def check_paths(root: Path, domain: str) -> None:
    """Nobody else answers under /v1/DOMAIN, or under /DOMAIN, where people would look for it."""
    for path, file in sorted(taken_paths(root)):
        if any(f"{path}/".startswith(f"{wanted}/") for wanted in (f"/v1/{domain}", f"/{domain}")):
            place = file.relative_to(root)
            raise Refused(f"{domain} is taken: {path} is a route of {place}; choose another name")


def taken_paths(root: Path) -> Iterator[tuple[str, Path]]:
    """Each path that the gateway answers or forwards, and the file that says so."""
    for file in root.glob("*/routes/*.toml"):
        try:
            routes = tomllib.loads(file.read_text()).get("routes", [])
        except ValueError as error:
            raise Refused(f"{file.relative_to(root)} is not TOML: {error}") from None
        for route in routes:
            yield str(route.get("path")), file
    own = root / "gateway/contract/openapi.json"
    for path in json.loads(own.read_text())["paths"]:
        yield path, own


def rename(place: Path, words: Mapping[str, str]) -> None:
    """Every whole word, in the names of files and in what they say."""
    for path in sorted([place, *place.rglob("*")] if place.is_dir() else [place], reverse=True):
        if path.is_file():
            path.write_text(replaced(path.read_text(), words))
        if path != place and (name := replaced(path.name, words)) != path.name:
            path.rename(path.with_name(name))


def replaced(text: str, words: Mapping[str, str]) -> str:
    """`_` ends a word here: test_items, items_not_found."""
    pattern = "|".join(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" for word in words)
    return re.sub(pattern, lambda found: words[found[0]], text)


def with_include(file: Path, compose_file: str) -> str:
    """The file with one more entry in its list, which may be empty and stands at the end."""
    head, found, rest = file.read_text().partition("\ninclude:")
    listed = [line for line in rest.removeprefix(" []").split("\n") if line.strip()]
    if not found or not all(re.match(" *(- |#)", line) for line in listed):
        raise Refused(f"{file.name} does not end with a list `include:`: mend that first")
    return "\n".join([f"{head}\ninclude:", *listed, f"  - {compose_file}", ""])


def main(arguments: Sequence[str], root: Path) -> None:
    """Choose the command."""
    match arguments:
        case ["service", name]:
            new_service(root, name)
        case ["app", service, name]:
            new_app(root, service, name)
        case _:
            raise Refused(USAGE)


if __name__ == "__main__":
    try:
        main(sys.argv[1:], Path(__file__).resolve().parents[2])
    except Refused as refused:
        sys.exit(f"scaffold: {refused}")
