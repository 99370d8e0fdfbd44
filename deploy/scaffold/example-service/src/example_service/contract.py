"""`python -m example_service.contract`: writes contract/openapi.json, what other teams build against."""

from pathlib import Path

from example_service.main import public_api
from service_kit.document import contract

PATH = Path(__file__).parents[2] / "contract" / "openapi.json"


def document() -> str:
    return contract(public_api())


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(document(), "utf-8")
    print(PATH)
