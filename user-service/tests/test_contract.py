"""The published contract is what the service serves."""

from conftest import Service

from user_service.contract import PATH, document


def test_the_contract_in_the_repository_is_fresh() -> None:
    assert PATH.read_text("utf-8") == document(), "run `python -m user_service.contract`"


async def test_the_public_document_knows_nothing_internal(service: Service) -> None:
    answer = await service.anonymous.get("/openapi.json")
    assert answer.status_code == 200
    assert "/internal" not in answer.text
    assert "/v1/users/me" in answer.json()["paths"]
