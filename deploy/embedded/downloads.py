"""How much a first start downloads, as the lock files say."""

import platform
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Package = Mapping[str, Any]


def download_sizes(locks: Iterable[Path]) -> dict[str, int]:
    """Bytes of each file that these projects need here, without what is for development alone."""
    found: dict[str, int] = {}
    for lock in locks:
        for package in needed(tomllib.loads(lock.read_text())["package"]):
            files = [each for each in package.get("wheels", ()) if fits(each["url"])] or [package["sdist"]]
            largest = max(files, key=lambda each: each["size"])
            found[f"{package['name']} {package['version']}"] = largest["size"]
    return found


def needed(packages: list[Package]) -> Iterator[Package]:
    """What the project itself depends on, and what that depends on."""
    known = {package["name"]: package for package in packages}
    (root,) = (
        each for each in packages if {"editable", "virtual"} & each["source"].keys() and is_project(each)
    )
    wanted, seen = [root], {root["name"]}
    while wanted:
        package = wanted.pop()
        if "registry" in package["source"]:
            yield package
        for each in package.get("dependencies", ()):
            if each["name"] not in seen:
                seen.add(each["name"])
                wanted.append(known[each["name"]])


def is_project(package: Package) -> bool:
    """The lock's own project lies in the lock's own folder."""
    source = package["source"]
    return bool(source.get("editable", source.get("virtual")) == ".")


def fits(url: str) -> bool:
    """Roughly as pip would say: a wheel for any machine, or for this one and this Python."""
    name = url.rpartition("/")[2]
    if name.endswith("-none-any.whl"):
        return True
    machines = {"x86_64": ("x86_64", "universal2"), "arm64": ("arm64", "universal2"), "aarch64": ("aarch64",)}
    python = f"-cp{sys.version_info[0]}{sys.version_info[1]}-"
    system = {"linux": "manylinux", "darwin": "macosx", "win32": "win"}.get(sys.platform, sys.platform)
    return (
        system in name
        and any(machine in name for machine in machines.get(platform.machine(), (platform.machine(),)))
        and (python in name or "-abi3-" in name or "-none-" in name)
    )
