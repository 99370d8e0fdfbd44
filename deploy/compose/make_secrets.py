"""Make every secret of the system once: random, a folder for each consumer, owned by it, mode 0400."""

import argparse
import hashlib
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

# Who reads a folder inside its container; in the embedded system all of it belongs to whoever runs this.
OWNERS = {
    "mysql": 999,
    "user-service-database": 999,  # makes the database and its users
    "user-service-migrate": 10001,
    "redis": 999,
    "redis-limits": 999,
    "auth-service": 10001,
    "user-service": 10001,
    "gateway": 10001,
    "services": 10001,  # yours: what verifying tokens needs, and nothing else
}


@dataclass(frozen=True)
class Secret:
    """One random value, and every file it stands in: who checks it and who presents it read the same."""

    places: tuple[str, ...]
    # Stored data survives the loss of a renewable secret, so a missing one is made anew. One that a later
    # release brings must be renewable, or existing installations could not start.
    renewable: bool = False


SECRETS = (
    Secret(("mysql/root_password", "user-service-database/root_password")),
    Secret(("user-service/database_password", "user-service-database/users_password"), renewable=True),
    Secret(("user-service-migrate/database_password", "user-service-database/users_owner_password"), renewable=True),
    Secret(("auth-service/key_encryption_key",)),
    Secret(("auth-service/refresh_key",)),
    Secret(("user-service/idempotency_key",)),
    Secret(("auth-service/device_key",), renewable=True),
    Secret(("auth-service/redis_password",), renewable=True),
    Secret(("user-service/events_redis_password",), renewable=True),
    Secret(("auth-service/revocations_redis_password", "user-service/revocations_redis_password",
            "gateway/revocations_redis_password", "services/revocations_redis_password"), renewable=True),
    Secret(("auth-service/limits_redis_password", "gateway/limits_redis_password"), renewable=True),
    Secret(("redis/health_password", "redis-limits/health_password"), renewable=True),
)  # fmt: skip

CONNECTION = "+ping +hello +auth +select +client|setinfo +client|setname +client|id"
ALL_OF_ITS_OWN = "+@all -@admin -@dangerous +info|clients"  # the latter counts connections
# Derived from the passwords at every run, so that a new release's rules arrive.
ACLS = {
    "redis/users.acl": {
        "auth": ("auth-service/redis_password", f"~auth:* ~users {ALL_OF_ITS_OWN}"),
        "follower": ("gateway/revocations_redis_password",
                     f"%R~auth:revocations %R~auth:epoch +xread +xinfo|stream +info|replication +get {CONNECTION}"),
        "users": ("user-service/events_redis_password",
                  f"~users +xadd +xtrim +xlen +xinfo +multi +exec +discard +waitaof {CONNECTION}"),
        "health": ("redis/health_password", "+ping"),
    },
    "redis-limits/users.acl": {
        "limits": ("auth-service/limits_redis_password", f"~* {ALL_OF_ITS_OWN}"),
        "health": ("redis-limits/health_password", "+ping"),
    },
}  # fmt: skip


class Refused(Exception):
    """Going on would lose data or guess: said to the operator as it is."""


def make(root: Path, data: list[Path], *, own: bool) -> int:
    """Complete `root`, return how many secrets were new; refuse if `data` was written under lost ones."""
    values = {secret: known_value(root, secret) for secret in SECRETS}
    lost = [secret for secret, value in values.items() if value is None and not secret.renewable]
    written_under = [str(folder) for folder in data if has_content(folder)]
    if lost and written_under:
        names = ", ".join(secret.places[0] for secret in lost)
        raise Refused(
            f"{names} missing while {', '.join(written_under)} holds data: restore the secrets from a backup "
            "(new ones could not read it), or delete secrets and data together"
        )
    texts: dict[str, str] = {}
    for secret, value in values.items():
        texts |= dict.fromkeys(secret.places, value or secrets.token_urlsafe(32))
    texts |= {place: acl(users, texts) for place, users in ACLS.items()}
    for consumer in OWNERS:
        folder(root / consumer, OWNERS[consumer] if own else None)
    for place, text in texts.items():
        if place in ACLS and (root / place).is_file() and (root / place).read_bytes() != text.encode():
            print(
                f"secrets: {place} has changed: a {place.split('/')[0]} that runs must restart to read it",
                flush=True,
            )
        write(root / place, text, OWNERS[place.split("/")[0]] if own else None)
    return sum(value is None for value in values.values())


def known_value(root: Path, secret: Secret) -> str | None:
    """The value that any of its places holds; two that differ are nobody's to choose from."""
    found = {text(root / place) for place in secret.places if (root / place).is_file()}
    found = {value for value in found if value.strip()}
    if len(found) > 1:
        raise Refused(f"{' and '.join(secret.places)} differ: restore them from one backup")
    return found.pop() if found else None


def text(path: Path) -> str:
    """As its reader takes it: whole, but for the newline that editors and `echo` leave."""
    return path.read_bytes().decode().removesuffix("\n").removesuffix("\r")


def has_content(folder: Path) -> bool:
    """Whether a store has written here; what a file system puts into every new volume does not count."""
    if folder.is_file():
        return True
    return folder.is_dir() and any(entry.name != "lost+found" for entry in folder.iterdir())


def acl(users: dict[str, tuple[str, str]], texts: dict[str, str]) -> str:
    """A Redis ACL file: nobody without a password, passwords as digests."""
    # Nobody can sign in as default; but it is who replays the append-only file at start, and whatever it may not
    # do is lost there: every transaction, and every script that wrote twice.
    lines = ["user default off sanitize-payload resetpass ~* &* +@all"]
    for name, (password_of, rules) in users.items():
        digest = hashlib.sha256(texts[password_of].encode()).hexdigest()
        lines.append(f"user {name} on #{digest} resetchannels -@all {rules}")
    return "\n".join(lines) + "\n"


def folder(path: Path, owner: int | None) -> None:
    """A folder only its consumer can enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is not None:
        os.chown(path, owner, owner)


def write(path: Path, text: str, owner: int | None) -> None:
    """The file whole or not at all, also when the machine stops meanwhile."""
    if not path.is_file() or path.read_bytes() != text.encode():
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    path.chmod(0o400)
    if owner is not None:
        os.chown(path, owner, owner)


def main() -> None:
    """The one-shot container's command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the folder that holds one folder for each consumer")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="stores written under these secrets")
    parser.add_argument("--own", action="store_true", help="hand each folder to its container's user")
    arguments = parser.parse_args()
    try:
        made = make(arguments.root, arguments.data, own=arguments.own)
    except Refused as refusal:
        sys.exit(f"secrets: {refusal}")
    print(f"secrets: {made} made, {len(SECRETS) - made} kept", flush=True)


if __name__ == "__main__":
    main()
