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
    for name in ("docker-compose.yml", "gateway/compose.yaml", ".github/workflows/gateway.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_new_service_is_complete_and_known_to_everyone(clone: Path) -> None:
    main(["service", "order-service"], clone)
    for name in NEW_FILES:
        assert (clone / "order-service" / name).is_file(), name
    texts = [path.read_text() for path in (clone / "order-service").rglob("*") if path.is_file()]
    assert not [text for text in texts if re.search(r"example[-_ ]service|\bitems\b|scaffold", text)]
    assert "  - order-service/compose.yaml\n" in (clone / "docker-compose.yml").read_text()
    assert "../order-service/routes:" in (clone / "gateway/compose.yaml").read_text()
    assert "room: order-service" in (clone / ".github/workflows/order-service.yml").read_text()


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
    "name",
    ["", "Orders", "1st", "a b", "../orders", "orders/", "orders_", "json", "tests", "class", "x" * 41],
)
def test_a_bad_name_is_refused_in_one_line_and_leaves_nothing(clone: Path, name: str) -> None:
    before = sorted(clone.rglob("*"))
    with pytest.raises(Refused) as refused:
        main(["service", name], clone)
    assert "\n" not in str(refused.value)
    assert sorted(clone.rglob("*")) == before


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
    for room in (file.parent.name for file in ROOT.glob("*/pyproject.toml")):
        assert f"room: {room}\n" in (ROOT / f".github/workflows/{room}.yml").read_text()
