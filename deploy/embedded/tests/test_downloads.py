"""A first start says how much it will download, as the lock files have it."""

from pathlib import Path

import pytest

from downloads import download_sizes, fits

ROOT = Path(__file__).parents[3]
WHEEL = "https://files.pythonhosted.org/packages/a/b/x-1-{}.whl"


def test_what_the_services_need_is_counted_once_and_what_only_their_tests_need_is_not() -> None:
    locks = [ROOT / name / "uv.lock" for name in ("user-service", "auth-service", "gateway")]
    found = download_sizes(locks)
    names = {name.partition(" ")[0] for name in found}
    assert {"pillow", "cryptography", "uvloop", "typing-extensions"} <= names
    assert not {"pytest", "mypy", "ruff", "user-service", "service-kit"} & names
    assert 10e6 < sum(found.values()) < 80e6
    assert sum(found.values()) < sum(sum(download_sizes([lock]).values()) for lock in locks)


@pytest.mark.parametrize(
    ("machine", "system", "tags", "fitting"),
    [
        ("x86_64", "linux", "py3-none-any", True),
        ("x86_64", "linux", "cp311-abi3-manylinux_2_28_x86_64", True),
        ("x86_64", "linux", "cp311-abi3-manylinux_2_28_aarch64", False),
        ("x86_64", "linux", "cp311-abi3-macosx_11_0_arm64", False),
        ("arm64", "darwin", "cp311-abi3-macosx_10_9_universal2", True),
        ("aarch64", "linux", "py3-none-manylinux2014_aarch64", True),
        ("x86_64", "linux", "cp27-cp27m-manylinux2014_x86_64", False),
    ],
)
def test_a_wheel_of_another_machine_is_not_counted(
    machine: str, system: str, tags: str, fitting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("sys.platform", system)
    assert fits(WHEEL.format(tags)) is fitting
