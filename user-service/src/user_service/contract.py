"""`python -m user_service.contract`: writes contract/openapi.json, what other teams build against."""

from pathlib import Path

from service_kit.document import contract
from user_service.main import public_api

PATH = Path(__file__).parents[2] / "contract" / "openapi.json"


def document() -> str:
    return contract(public_api())


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(document(), "utf-8")
    print(PATH)
