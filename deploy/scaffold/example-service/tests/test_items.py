"""Whoever is signed in reads the entries."""

from conftest import Client

from service_kit.testing import TestIssuer


async def test_everyone_who_is_signed_in_reads_the_entries(client: Client, issuer: TestIssuer) -> None:
    async with client(issuer.token()) as ada:
        listed = (await ada.get("/v1/items")).json()
        assert [entry["key"] for entry in listed] == ["first", "second"]
        assert (await ada.get("/v1/items/first")).json() == listed[0]


async def test_nobody_else_does(client: Client) -> None:
    async with client(None) as stranger:
        answer = await stranger.get("/v1/items")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


async def test_a_token_that_was_narrowed_for_another_service_reads_nothing(
    client: Client, issuer: TestIssuer
) -> None:
    async with client(issuer.token(scope="other:read")) as ada:
        answer = await ada.get("/v1/items")
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    async with client(issuer.token(scope="items:read")) as ada:
        assert (await ada.get("/v1/items")).status_code == 200


async def test_what_is_not_there_is_said_with_a_code(client: Client, issuer: TestIssuer) -> None:
    async with client(issuer.token()) as ada:
        answer = await ada.get("/v1/items/third")
    assert (answer.status_code, answer.json()["code"]) == (404, "items_not_found")


async def test_a_path_with_a_slash_too_many_is_not_there_and_nobody_is_sent_elsewhere(
    client: Client, issuer: TestIssuer
) -> None:
    async with client(issuer.token()) as ada:
        for path in ("/v1/items/", "/v1/items/first/"):
            answer = await ada.get(path)
            assert answer.status_code == 404
            assert "location" not in answer.headers
