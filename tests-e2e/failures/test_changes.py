"""What operators do while people use the system: rotate keys, change the schema."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from gatehouse_e2e.compose import Compose
from gatehouse_e2e.load import Read, Share
from gatehouse_e2e.people import People
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.systems import copy_checkout, run
from gatehouse_e2e.waiting import until

pytestmark = [pytest.mark.breaks, pytest.mark.full]

# A key signs once it has been published for two of the lifetimes that compose.yaml here sets.
PUBLISHED_SECONDS = 31

EXPANSION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, oldest_code = "9000_phone", "NEWEST", "NEWEST"
branch_labels = depends_on = None


def upgrade():
    op.add_column("users", sa.Column("phone", sa.String(20)))
    op.create_index("ix_users_phone", "users", ["phone"])


def downgrade():
    op.drop_index("ix_users_phone", "users")
    op.drop_column("users", "phone")
"""
# The release after this one: the same code and one more migration. Its migrator runs beside the code that serves.
NEXT_RELEASE = f"""
import pathlib, shutil, sys, user_service
package = pathlib.Path(user_service.__file__).parent
shutil.copytree(package, "/tmp/next/user_service", dirs_exist_ok=True)
versions = pathlib.Path("/tmp/next/user_service/migrations/versions")
newest = max(file.stem for file in versions.glob("0*.py"))
(versions / "9000_phone.py").write_text({EXPANSION!r}.replace("NEWEST", newest))
"""
MIGRATE = 'python -c "$0" && PYTHONPATH=/tmp/next exec python -m user_service.migrations "$@"'
# What the next release's code does as soon as the column is there, again and again while the old code writes too.
NEW_CODE = """
for n in $(seq 20); do
  MYSQL_PWD="$(cat /run/secrets/root_password)" mysql --user=root users \\
    --execute="UPDATE users SET phone = '+44 20 7946 $n' ORDER BY id DESC LIMIT 20; SELECT MAX(phone) FROM users" \\
    2>&1 || exit 1
done
"""


def test_nobody_notices_that_the_signing_key_changed(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    """Nor does the other replica: what one signs with the new key is good at both at once."""
    parts.scale("auth-service", 2)
    try:
        readers = [people.signed_in() for _ in range(8)]  # with tokens of the key before, all the time
        newcomer = people.registered()
        with steady("key rotation", Share(200, Read(readers))) as seen:
            for _ in range(3):
                time.sleep(PUBLISHED_SECONDS)
                with seen.span("rotated"):
                    parts.execute("auth-service", "python", "-m", "auth_service", "keys", "rotate")
                    people.sign_in(newcomer)
                    for _ in range(8):  # whichever replica is asked
                        people.api(newcomer).sessions(newcomer.tokens)
            time.sleep(3)
    finally:
        parts.scale("auth-service", 1)
    promise("key rotation under load: failed", len(seen.failures()), at_most=0, unit="")
    promise("key rotation under load: requests", len(seen.select()), at_least=20_000, unit="")


def test_a_migration_runs_under_load_with_old_and_new_code_together(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, rounds: int
) -> None:
    """The code that serves knows nothing of the next release's column; the new code writes it; then it goes again."""
    alone = (
        "run",
        "--rm",
        "--no-deps",
        "--no-TTY",
        "user-service-migrate",
        "sh",
        "-c",
        MIGRATE,
        NEXT_RELEASE,
    )
    with steady("migration") as seen:
        for _ in range(rounds):
            time.sleep(1)
            with seen.span("expand"):
                parts.compose(*alone, "upgrade", seconds=90)
            with seen.span("new code"):
                parts.execute("mysql", "sh", "-c", NEW_CODE, seconds=60)
            with seen.span("contract"):
                parts.compose(*alone, "downgrade", "-1", seconds=90)
        time.sleep(2)
    promise("migration under load: errors", len(seen.failures()), at_most=0, unit="")


# What `make service` makes, with the names of this suite's images.
JOINING = """
x-build: &build
  labels: {{ gatehouse.e2e.checkout: "${{E2E_CHECKOUT:-}}" }}
services:
  orders:
    extends: {{ file: "{0}/orders/compose.yaml", service: orders }}
    image: ${{E2E_IMAGES}}-orders
    build: *build
  orders-routes:
    extends: {{ file: "{0}/orders/compose.yaml", service: orders-routes }}
    image: ${{E2E_IMAGES}}-orders
"""


def test_a_service_joins_and_leaves_and_nobody_else_is_restarted_or_fails(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture, tmp_path: Path
) -> None:
    checkout = copy_checkout(parts.checkout, tmp_path / "checkout")
    run(["make", "service", "NAME=orders"], cwd=checkout, seconds=180)
    overlay = tmp_path / "joining.yaml"
    overlay.write_text(JOINING.format(checkout))
    others = [part for part, state in parts.states().items() if not state.startswith("Exited")]
    before = {part: (parts.containers(part), parts.started(part)) for part in others}
    try:
        with steady("a service joins and leaves") as seen, httpx.Client() as client:

            def status() -> int:
                return client.get(f"{parts.url}/v1/orders").status_code

            assert status() == 404
            with seen.span("joins"):
                parts.compose("up", "--build", "--wait", "orders", overlays=[str(overlay)], seconds=300)
            joined = until(lambda: status() == 401, 20, "served")
            assert {part: (parts.containers(part), parts.started(part)) for part in others} == before
            time.sleep(2)
            with seen.span("leaves"):
                run(
                    [str(checkout / "deploy/compose/remove"), "orders"],
                    environment={"PROJECT": parts.project},
                    seconds=120,
                )
            assert status() == 404
            assert "orders" not in parts.states()
            time.sleep(2)
    finally:
        parts.compose(
            "rm", "--force", "--stop", "orders", "orders-routes", overlays=[str(overlay)], seconds=120
        )
    assert {part: (parts.containers(part), parts.started(part)) for part in others} == before
    promise("a service joins: served after it is up", joined, at_most=3)
    promise("a service joins and leaves: failed", len(seen.failures()), at_most=0, unit="")
