"""What a service publishes of itself."""

import json

from fastapi import APIRouter, FastAPI

from service_kit.document import contract


def test_a_contract_says_what_else_is_answered_beside_the_listed_operations() -> None:
    router = APIRouter(prefix="/v1/links")

    @router.get("/{kind}", include_in_schema=False)
    async def page(kind: str) -> str:
        return kind

    @router.post("/{kind}")
    async def follow(kind: str) -> str:
        return kind

    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router)
    published = json.loads(contract(app))
    assert [*published["paths"]["/v1/links/{kind}"]] == ["post"]
    assert published["x-unlisted"] == {"/v1/links/{kind}": {"get": {}}}
    assert published.keys() - {"x-unlisted"} == app.openapi().keys()
