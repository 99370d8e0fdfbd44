"""A new service stands beside the others, under its own name alone."""

import re
import shutil
from pathlib import Path

import pytest

from create import Refused, main, replaced

ROOT = Path(__file__).parents[3]
NEW_FILES = [
    *("pyproject.toml", "uv.lock", "Dockerfile", "Dockerfile.dockerignore", "compose.yaml"),
    *("README.md", "CHANGELOG.md", "contract/openapi.json", "routes/order.toml", "tests/test_order.py"),
    *("src/order_service/main.py", "src/order_service/order/router.py"),
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of the repository as a new service touches."""
    touched = [
        ROOT / name for name in ("docker-compose.yml", "services.yaml", ".github/workflows/gateway.yml")
    ]
    read = [
        "*-service/routes/*.toml",
        "gateway/contract/openapi.json",
        "*/compose.yaml",
        "deploy/compose/*.yaml",
    ]
    for file in touched + [file for pattern in read for file in ROOT.glob(pattern)]:
        place = tmp_path / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return tmp_path


def test_a_new_service_is_complete_and_known_to_everyone(clone: Path) -> None:
    main(["service", "order-service"], clone)
    for name in NEW_FILES:
        assert (clone / "order-service" / name).is_file(), name
    texts = [path.read_text() for path in (clone / "order-service").rglob("*") if path.is_file()]
    assert not [text for text in texts if re.search(r"example[-_ ]service|\bitems\b|scaffold", text)]
    assert (clone / "services.yaml").read_text().endswith("\ninclude:\n  - order-service/compose.yaml\n")
    assert "project: order-service" in (clone / ".github/workflows/order-service.yml").read_text()


def test_a_new_service_changes_no_file_that_an_update_of_gatehouse_brings(clone: Path) -> None:
    before = {file: file.read_bytes() for file in clone.rglob("*") if file.is_file()}
    main(["service", "orders"], clone)
    main(["service", "payments"], clone)
    changed = [file.name for file, content in before.items() if file.read_bytes() != content]
    assert changed == ["services.yaml"]
    listed = (clone / "services.yaml").read_text().partition("\ninclude:\n")[2]
    assert listed == "  - orders/compose.yaml\n  - payments/compose.yaml\n"


def test_a_list_of_services_that_somebody_has_written_anew_is_kept_or_refused(clone: Path) -> None:
    (clone / "services.yaml").write_text(
        "# ours\ninclude:\n  - a/compose.yaml\n  # and\n\n  - b/compose.yaml\n"
    )
    main(["service", "orders"], clone)
    assert (clone / "services.yaml").read_text() == (
        "# ours\ninclude:\n  - a/compose.yaml\n  # and\n  - b/compose.yaml\n  - orders/compose.yaml\n"
    )
    (clone / "services.yaml").write_text("include: [a/compose.yaml]\n")
    with pytest.raises(Refused, match=r"services\.yaml does not end with a list"):
        main(["service", "payments"], clone)
    assert not (clone / "payments").exists()


def test_a_new_package_gets_its_code_its_tests_its_routes_and_its_place(clone: Path) -> None:
    main(["service", "orders"], clone)
    main(["app", "orders", "invoices"], clone)
    text = (clone / "orders/src/orders/main.py").read_text()
    assert "from orders.invoices import router as invoices\n" in text
    assert "ROUTERS: Final = (invoices.router, orders.router,)" in text
    assert 'path = "/v1/invoices"' in (clone / "orders/routes/invoices.toml").read_text()
    assert (clone / "orders/tests/test_invoices.py").is_file()
    assert '"orders.invoices", "orders.orders"' in (clone / "orders/pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(
            (name, "is not a valid name: use lower-case words")
            for name in ("", "Orders", "1st", "a b", "orders_")
        ),
        *(
            (name, "is not a valid name")
            for name in ("../orders", "orders/", "-x", "x--y", "orders\n", "é", "x" * 41)
        ),
        *(
            (name, f"{name} is taken: `import {name}` is a library's")
            for name in ("json", "httptools", "redis")
        ),
        *((name, f"{name} is reserved") for name in ("class", "list", "tests", "router", "localhost")),
        ("main-service", "main is reserved"),
        ("class-service", "class is reserved"),
        ("example-service", "example_service is reserved"),
        ("users", "users is taken: /v1/users is a route of user-service/routes/users.toml"),
        ("users-service", "users is taken: /v1/users is a route of user-service/routes/users.toml"),
        ("auth", "auth is taken: /auth/introspect is a route of auth-service/routes/auth.toml"),
        ("v1", "v1 is taken: /v1/users"),
        ("docs", "docs is reserved"),
        ("healthz", "healthz is taken: /healthz is a route of gateway/contract/openapi.json"),
        ("metrics", "metrics is taken: /metrics is a route of gateway/contract/openapi.json"),
        ("portal", "portal is reserved"),
        ("mysql", "mysql is taken: deploy/compose/mysql.yaml has a container of that name"),
        ("redis-limits", "redis-limits is taken: deploy/compose/redis.yaml has a container of that name"),
        ("user-service", "user-service exists already"),
        ("gateway", "gateway exists already"),
        ("deploy", "deploy exists already"),
    ],
)
def test_a_bad_name_is_refused_in_one_line_and_leaves_nothing(clone: Path, name: str, reason: str) -> None:
    before = {file: file.read_bytes() for file in clone.rglob("*") if file.is_file()}
    with pytest.raises(Refused) as refused:
        main(["service", name], clone)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {file: file.read_bytes() for file in clone.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("users", "users is taken: /v1/users is a route of user-service/routes/users.toml"),
        ("auth", "auth is taken: /auth/introspect is a route of auth-service/routes/auth.toml"),
        ("metrics", "metrics is taken: /metrics is a route of gateway/contract/openapi.json"),
        ("config", "config is reserved"),
        ("class", "class is reserved"),
    ],
)
def test_a_bad_name_of_a_package_is_refused_in_one_line_and_leaves_nothing(
    clone: Path, name: str, reason: str
) -> None:
    main(["service", "orders"], clone)
    before = {file: file.read_bytes() for file in clone.rglob("*") if file.is_file()}
    with pytest.raises(Refused, match=reason):
        main(["app", "orders", name], clone)
    assert {file: file.read_bytes() for file in clone.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["orders", "order-service", "email-service", "avatars", "x2-y"])
def test_a_name_that_nobody_has_is_taken(clone: Path, name: str) -> None:
    main(["service", name], clone)
    assert (clone / name / "pyproject.toml").is_file()


def test_a_service_of_ones_own_keeps_its_paths(clone: Path) -> None:
    main(["service", "orders"], clone)
    with pytest.raises(Refused, match="orders is taken: /v1/orders is a route of"):
        main(["service", "orders-service"], clone)


def test_what_exists_is_never_overwritten(clone: Path) -> None:
    main(["service", "orders"], clone)
    with pytest.raises(Refused, match="orders exists already"):
        main(["service", "orders"], clone)
    with pytest.raises(Refused, match="has a package orders already"):
        main(["app", "orders", "orders"], clone)
    with pytest.raises(Refused, match="payments is not a service here"):
        main(["app", "payments", "invoices"], clone)


def test_only_whole_words_are_renamed() -> None:
    assert replaced("items_not_found test_items itemset lineitems", {"items": "x"}) == (
        "x_not_found test_x itemset lineitems"
    )


def test_every_room_has_a_workflow_of_its_own() -> None:
    for project in (file.parent.name for file in ROOT.glob("*/pyproject.toml")):
        assert f"project: {project}\n" in (ROOT / f".github/workflows/{project}.yml").read_text()
