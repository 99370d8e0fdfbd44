"""`python -m example_service.contract`: writes contract/openapi.json, what other teams build against."""

import json
from pathlib import Path

from example_service.main import public_api

PATH = Path(__file__).parents[2] / "contract" / "openapi.json"


def document() -> str:
    return json.dumps(public_api().openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(document(), "utf-8")
    print(PATH)
