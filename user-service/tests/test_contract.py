"""The published contract is what the service serves."""

import re

from conftest import Service

from user_service.contract import PATH, document


def test_the_contract_in_the_repository_is_fresh() -> None:
    assert PATH.read_text("utf-8") == document(), "run `python -m user_service.contract`"


async def test_the_public_document_knows_nothing_internal(service: Service) -> None:
    response = await service.anonymous.get("/openapi.json")
    assert response.status_code == 200
    assert "/internal" not in response.text
    assert "/v1/users/me" in response.json()["paths"]


async def test_every_protected_route_challenges_who_shows_nothing_or_a_bad_token(service: Service) -> None:
    document = (await service.anonymous.get("/openapi.json")).json()
    protected = [
        (method, re.sub(r"{\w+}", "00000000-0000-7000-8000-000000000000", path))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    ]
    assert len(protected) > 10
    for method, path in protected:
        nothing = await service.anonymous.request(method, path)
        assert (nothing.status_code, nothing.headers["www-authenticate"]) == (401, "Bearer"), path
        refused = await service.client("a.b.c").request(method, path)
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token"'), path
