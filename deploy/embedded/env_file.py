"""What `.env` says, read as compose reads it, and refused where nobody reads it. As a program: look before `make up`."""

import ast
import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from supervisor import Fault

ENV_LINE = re.compile(r"""\s*(?:export\s+)?(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|(.*?))\s*(?:\s#.*)?""")
# What docker, libraries and interpreters read: never an unknown name, though perhaps a misspelt one of ours.
OF_OTHERS = re.compile(
    r"(COMPOSE|DOCKER|BUILDKIT|BUILDX|UV|PIP|GUNICORN|MALLOC|LC)_\w+|PYTHON\w+|TZ|LANG|SSL_CERT_(FILE|DIR)"
    r"|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY"
)
OF_MAKE = {"PORT", "VAR"}
# Read in other places than this one.
MEANT = {
    "PROJECT": "COMPOSE_PROJECT_NAME",
    "WORKERS": "GATEWAY_WORKERS, AUTH_SERVICE_WORKERS or USER_SERVICE_WORKERS",
}
NEAR = 0.88  # as in service_kit.settings


def said_in(text: str) -> dict[str, str]:
    """The lines of a `.env`; one that is not understood is told, not passed over."""
    said = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (match := ENV_LINE.fullmatch(line)) is None:
            raise Fault(f"line {number} of .env is not NAME=value")
        said[match[1]] = match[2] or match[3] or match[4] or ""
    return said


def read(root: Path) -> dict[str, str]:
    """The `.env` of a folder, if there is one."""
    file = root / ".env"
    return said_in(file.read_text(encoding="utf-8-sig")) if file.is_file() else {}


def fields(root: Path, files: Iterable[Path] = (), *, secret: bool = False) -> Iterator[str]:
    """The fields of the Settings classes of every service, as variables: those that are secrets, or all others."""
    everybodys = [*root.glob("*/src/*/config.py"), root / "service-kit/src/service_kit/settings.py"]
    for file in files or everybodys:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
                declared = (field for field in node.body if isinstance(field, ast.AnnAssign))
                for field in declared:
                    if ("SecretStr" in ast.unparse(field.annotation)) == secret:
                        yield ast.unparse(field.target).upper()


def filled_in_by_compose(root: Path) -> set[str]:
    """The variables of the compose files: ${NAME}, with or without a default."""
    files = [root / "docker-compose.yml", *root.glob("*/compose.yaml"), *root.glob("deploy/compose/*.yaml")]
    return {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text(encoding="utf-8"))}


def refuse_unread(said: Iterable[str], root: Path) -> None:
    """A `.env` is ours alone: a name in it that nobody reads is a mistake, and may be a protection that is not there."""
    read_by_us = (set(fields(root)) | filled_in_by_compose(root) | OF_MAKE) - MEANT.keys()
    secrets = set(fields(root, secret=True))
    unread = []
    for name in said:
        if name in read_by_us:
            continue
        near = difflib.get_close_matches(name.upper(), read_by_us, n=1, cutoff=0.75)
        if name in secrets:
            unread.append(f"{name} (a secret is a file, {name.lower()}: see docs/production.md)")
        elif name in MEANT:
            unread.append(f"{name} (did you mean {MEANT[name]}?)")
        elif not OF_OTHERS.fullmatch(name):
            unread.append(f"{name} (did you mean {near[0]}?)" if near else name)
        elif near and is_near(name, near[0]):
            unread.append(f"{name} (did you mean {near[0]}?)")
    if unread:
        raise Fault(
            f"nobody reads what .env sets as {', '.join(unread)}. Settings are in .env.example; those of a service "
            "of yours are the fields of Settings in its config.py, or ${NAME} in its compose.yaml"
        )


def is_near(name: str, other: str) -> bool:
    """Whether one is most likely the other misspelt."""
    return name != other and difflib.SequenceMatcher(None, name, other).ratio() >= NEAR


def without_effect(environment: Mapping[str, str], root: Path) -> Iterator[str]:
    """What reaches no container: compose passes `.env` on, of the environment only what its files name."""
    passed_on = filled_in_by_compose(root) | OF_MAKE
    settings = set(fields(root)) | passed_on
    for name in environment:
        if name in settings and name not in passed_on:
            yield f"{name} of this environment reaches no container: set it in .env"
        elif name not in settings and not OF_OTHERS.fullmatch(name):
            for near in difflib.get_close_matches(name, settings, n=1, cutoff=NEAR):
                yield f"nobody reads {name}: did you mean {near}?"


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    try:
        refuse_unread(read(here), here)
    except Fault as fault:
        sys.exit(f"refused: {fault}")
    for line in without_effect(os.environ, here):
        print(f"warning: {line}", file=sys.stderr)
