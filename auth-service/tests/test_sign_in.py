"""The journey of a session: sign in, renew, sign out."""

from conftest import ISSUER, Service
from people import People


async def test_signing_in_gives_a_token_that_verifies(service: Service, people: People) -> None:
    grant = await service.sign_in()
    assert grant["token_type"] == "Bearer"
    assert grant["expires_in"] == 300
    assert grant["scope"] == "*"
    async with service.client(grant["access_token"]) as client:
        answer = await client.get("/auth/verify")
    assert answer.status_code == 204
    assert answer.headers["x-auth-subject"] == people["ada@example.com"]["id"]


async def test_renewing_gives_a_new_pair_of_the_same_session(service: Service) -> None:
    grant = await service.sign_in()
    answer = await service.refresh(grant["refresh_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["refresh_token"].split(".")[:3] == [grant["refresh_token"].split(".")[0], "1", "0"]


async def test_signing_out_refuses_both_tokens(service: Service) -> None:
    grant = await service.sign_in()
    answer = await service.public.post("/auth/revoke", data={"token": grant["refresh_token"]})
    assert answer.status_code == 200
    assert (await service.refresh(grant["refresh_token"])).json()["code"] == "session_ended"
    await service.until_refused(grant["access_token"], "session_revoked")


async def test_the_metadata_names_the_issuer_byte_for_byte(service: Service) -> None:
    assert (await service.public.get("/.well-known/oauth-authorization-server")).json()["issuer"] == ISSUER
