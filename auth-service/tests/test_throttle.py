"""Sign-in limits: who is slowed down, who never is, and what an answer tells."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from conftest import Service, make_settings, started
from people import People

from auth_service.config import Settings, secret_keys
from auth_service.throttle.devices import Devices, fold
from service_kit import testing

OF_A_PEER = ("x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")


async def attempt(service: Service, password: str = "wrong", **how: Any) -> httpx.Response:
    form = {
        "grant_type": "password",
        "username": how.pop("username", "ada@example.com"),
        "password": password,
    }
    async with service.client(address=how.pop("address", "203.0.113.1")) as client:
        return await client.post("/auth/token", data=form, **how)


async def until_locked(service: Service, **how: Any) -> httpx.Response:
    for _ in range(30):
        response = await attempt(service, **how)
        if response.status_code == 429:
            return response
    raise AssertionError("thirty failures and no limit")


async def until_locked_for_long(service: Service, redis: Any) -> None:
    """As after many more failures: longer than the test takes, however busy the machine."""
    await until_locked(service)
    [backoff] = [key async for key in redis.scan_iter("signin:backoff:*")]
    await redis.hset(backoff, "until", int(time.time() * 1000) + 600_000)


async def test_failed_sign_ins_are_slowed_down_and_told_how_long_to_wait(service: Service) -> None:
    response = await until_locked(service)
    assert response.json()["code"] == "too_many_attempts"
    assert 1 <= int(response.headers["retry-after"]) <= 2
    assert response.headers["ratelimit-policy"].startswith('"account"')
    assert "r=0" in response.headers["ratelimit"]


async def test_a_locked_account_answers_the_same_whether_it_exists_or_not(service: Service) -> None:
    known = await until_locked(service, address="203.0.113.1")
    unknown = await until_locked(service, address="203.0.113.2", username="nobody@example.com")
    assert known.text == unknown.text


async def test_no_spelling_of_an_address_buys_another_allowance(service: Service) -> None:
    spellings = [
        "ada@example.com",
        "ADA@example.com",
        " ada@EXAMPLE.com",
        "ａda@example.com",
        "ada@example。com",
    ]
    for number in range(6):
        await attempt(service, username=spellings[number % len(spellings)])
    assert (await attempt(service, username="aDa@example.com")).status_code == 429


@pytest.mark.parametrize("gateway", ["a stranger's address", "ours"])
async def test_rotating_forwarded_headers_change_nothing(
    redis_url: str, people: People, tmp_path: Any, gateway: str
) -> None:
    """From whom nothing is believed, and from the gateway itself, of which one header is."""
    peers = "127.0.0.1" if gateway == "ours" else "192.0.2.1"
    async with started(make_settings(redis_url, people.url, tmp_path, gateway_peers=peers)) as service:
        responses, began = [], time.monotonic()
        for number in range(30):
            address = f"198.51.100.{number}"
            forged = dict.fromkeys(OF_A_PEER, address) | {"forwarded": f"for={address}"}
            if gateway != "ours":
                forged["x-forwarded-for"] = address
            responses.append(await attempt(service, username=f"p{number}@example.com", headers=forged))
    tried = [response.status_code for response in responses].count(400)
    assert (
        tried <= 20 + (time.monotonic() - began) / 3
    )  # twenty for the address, and one more every three seconds


async def test_two_clients_behind_one_trusted_hop_have_two_allowances(service: Service) -> None:
    for number in range(25):
        await attempt(service, username=f"p{number}@example.com", address="203.0.113.7")
    assert (await attempt(service, username="q@example.com", address="203.0.113.7")).status_code == 429
    assert (await attempt(service, username="q@example.com", address="203.0.113.8")).status_code == 400


@pytest.mark.parametrize(
    ("within", "again", "beyond"),
    [
        ("2001:db8:0:1::{:x}", "2001:db8:0:1:f::1", "2001:db8:0:2::1"),
        ("::ffff:203.0.113.7", "203.0.113.7", "::ffff:203.0.113.8"),
    ],
)
async def test_one_customers_addresses_share_one_allowance(
    service: Service, within: str, again: str, beyond: str
) -> None:
    for number in range(1, 26):
        await attempt(service, username=f"p{number}@example.com", address=within.format(number))
    limited = await attempt(service, username="q@example.com", address=again)
    assert limited.status_code == 429
    assert limited.headers["ratelimit-policy"].startswith('"address"')
    assert (await attempt(service, username="q@example.com", address=beyond)).status_code == 400


@pytest.mark.parametrize(
    ("networks", "admitted"),
    [
        ([f"2001:db8:0:{number:x}::1" for number in range(256)], 2 * 4),  # a /56
        ([f"2001:db8:0:{number:x}00::1" for number in range(256)], 2 * 16),  # a /48
        ([f"203.0.113.{number}" for number in range(256)], 2 * 4),  # an IPv4 /24
    ],
    ids=["/56", "/48", "/24"],
)
async def test_all_of_one_customers_networks_leave_the_others_their_share(
    redis_url: str, people: People, tmp_path: Any, networks: list[str], admitted: int
) -> None:
    few = make_settings(
        redis_url, people.url, tmp_path, sign_in_address_per_minute=2, sign_in_global_per_minute=60
    )
    async with started(few) as service:
        began = time.monotonic()
        responses = [
            await attempt(service, username=f"p{number}@example.com", address=address)
            for number, address in enumerate(networks)
        ]
        refused = [response for response in responses if response.status_code == 429]
        gone_by = time.monotonic() - began
        assert admitted <= len(responses) - len(refused) <= admitted * (1 + gone_by / 60) + 1
        assert all(response.headers["ratelimit-policy"].startswith('"address"') for response in refused)
        assert (await attempt(service, username="q@example.com", address="198.51.100.1")).status_code == 400


@pytest.mark.parametrize("length", [257, 1025, 60_000])
async def test_a_password_that_is_too_long_costs_its_address_what_a_wrong_one_does(
    service: Service, length: int
) -> None:
    for number in range(25):
        await attempt(service, "x" * length, username=f"p{number}@example.com")
    limited = await attempt(service, username="q@example.com")
    assert limited.status_code == 429
    assert limited.headers["ratelimit-policy"].startswith('"address"')


async def test_all_strangers_together_have_an_allowance_that_no_known_device_needs(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    few = make_settings(redis_url, people.url, tmp_path, sign_in_global_per_minute=5)
    async with started(few) as service:
        device = (await attempt(service, People.PASSWORD)).headers["x-device-token"]
        responses = [
            await attempt(service, username=f"p{number}@example.com", address=f"198.51.100.{number}")
            for number in range(6)
        ]
        assert [response.status_code for response in responses] == [400] * 5 + [429]
        assert responses[-1].headers["ratelimit-policy"].startswith('"everybody"')
        assert 1 <= int(responses[-1].headers["retry-after"]) <= 12
        mine = {"x-device-token": device}
        assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 200


async def test_guesses_at_once_from_many_addresses_are_counted_before_any_is_hashed(
    service: Service, people: People, redis: Any
) -> None:
    began = time.monotonic()
    responses = await asyncio.gather(
        *(attempt(service, address=f"198.51.100.{number}") for number in range(50))
    )
    told = [response.status_code for response in responses]
    assert set(told) == {400, 429}
    # Ten for the account, and one more every six seconds.
    assert told.count(400) == people.hashed <= 10 + (time.monotonic() - began) / 6
    await until_locked_for_long(service, redis)
    hashed = people.hashed
    assert (await attempt(service, People.PASSWORD)).status_code == 429
    assert people.hashed == hashed


@pytest.mark.parametrize("by", ["cookie", "header"])
async def test_a_flood_never_locks_out_the_victims_known_device(
    service: Service, redis: Any, by: str
) -> None:
    first = await attempt(service, People.PASSWORD)
    device = first.headers["x-device-token"]
    assert f"device={device}" in first.headers["set-cookie"]
    assert "HttpOnly" in first.headers["set-cookie"]
    await until_locked_for_long(service, redis)
    assert (await attempt(service, People.PASSWORD)).status_code == 429
    mine = {"cookie": f"device={device}"} if by == "cookie" else {"x-device-token": device}
    for _ in range(20):
        assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 200


async def test_a_device_is_known_to_its_own_account_alone(
    service: Service, people: People, redis: Any
) -> None:
    people.add("eve@example.com")
    theirs = (await attempt(service, People.PASSWORD, username="eve@example.com")).headers["x-device-token"]
    await until_locked_for_long(service, redis)
    response = await attempt(service, People.PASSWORD, headers={"x-device-token": theirs})
    assert response.status_code == 429


async def test_a_device_that_we_did_not_sign_is_a_stranger(service: Service, redis: Any) -> None:
    device = (await attempt(service, People.PASSWORD)).headers["x-device-token"]
    name, _, mac = device.partition(".")
    await until_locked_for_long(service, redis)
    for forged in (
        f"{name}x.{mac}",
        f"{name}.{mac[::-1]}",
        f"{name}.",
        f".{mac}",
        name,
        f"{device}=",
        "x",
        ".",
    ):
        for headers in ({"x-device-token": forged}, {"cookie": f"device={forged}"}):
            assert (await attempt(service, People.PASSWORD, headers=headers)).status_code == 429, headers
    genuine = {"x-device-token": device}
    assert (await attempt(service, People.PASSWORD, headers=genuine)).status_code == 200


async def test_a_device_is_known_until_the_password_changes(
    service: Service, people: People, redis: Any
) -> None:
    mine = {"x-device-token": (await attempt(service, People.PASSWORD)).headers["x-device-token"]}
    await until_locked_for_long(service, redis)
    people.change("ada@example.com", ending=False)  # of roles, say
    assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 200
    people.change("ada@example.com")
    assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 429


async def test_a_device_is_known_for_a_year(
    service: Service, settings: Settings, people: People, redis: Any
) -> None:
    [key] = secret_keys(settings.device_key)
    devices = Devices(key)
    account, ada = devices.account("ada@example.com"), people["ada@example.com"]["id"]
    await until_locked_for_long(service, redis)
    for days, status in ((364, 200), (365, 429)):
        value = devices.issue(account, ada, 1, int(time.time()) - days * 86400)
        response = await attempt(service, People.PASSWORD, headers={"x-device-token": value})
        assert response.status_code == status, days


async def test_nothing_of_a_device_can_be_changed(service: Service, redis: Any) -> None:
    device = (await attempt(service, People.PASSWORD)).headers["x-device-token"]
    parts = device.split(".")
    await until_locked_for_long(service, redis)
    for place, other in (
        (0, "A" * 16),
        (1, "someone-else"),
        (2, "2"),
        (3, str(int(time.time()) + 9)),
        (4, "A" * 43),
    ):
        forged = ".".join([*parts[:place], other, *parts[place + 1 :]])
        response = await attempt(service, People.PASSWORD, headers={"x-device-token": forged})
        assert response.status_code == 429, place


async def test_a_followed_link_ends_the_wait_once(service: Service, people: People, redis: Any) -> None:
    await until_locked_for_long(service, redis)
    assert (await attempt(service, People.PASSWORD)).status_code == 429
    people.links["first"] = "ada@example.com"
    assert (await attempt(service, People.PASSWORD)).status_code == 200
    await until_locked_for_long(service, redis)
    assert (await attempt(service, People.PASSWORD)).status_code == 429
    people.links["second"] = "ada@example.com"
    assert (await attempt(service)).status_code == 400
    assert (await attempt(service, People.PASSWORD)).status_code == 200


async def test_a_followed_link_ends_nobody_elses_wait(service: Service, people: People, redis: Any) -> None:
    people.links["theirs"] = "eve@example.com"
    await until_locked_for_long(service, redis)
    assert (await attempt(service, People.PASSWORD)).status_code == 429
    theirs = {"x-device-token": "link.theirs"}
    assert (await attempt(service, People.PASSWORD, headers=theirs)).status_code == 429


async def test_user_service_is_asked_about_links_as_often_as_an_address_may_try(
    service: Service, people: People, settings: Settings
) -> None:
    def asked() -> int:
        return sum(each.url.path.endswith("/followed") for each in people.requests)

    most = settings.sign_in_address_per_minute
    for number in range(most + 10):
        headers = {"x-device-token": f"link.made-up-{number}"}
        await attempt(service, username=f"nobody{number}@example.com", headers=headers)
    assert asked() <= most + 1  # one more is earned meanwhile
    for _ in range(10):  # of an account that waits, without any such value
        await attempt(service)
    assert asked() <= most + 2


async def test_user_service_is_asked_about_a_device_as_often_as_the_device_may_try(
    service: Service, people: People, settings: Settings
) -> None:
    old = {"x-device-token": (await attempt(service, People.PASSWORD)).headers["x-device-token"]}
    people.change("ada@example.com")
    people.requests.clear()
    for _ in range(settings.sign_in_account_per_minute + 10):
        await attempt(service, headers=old)
    asked = sum(each.method == "GET" for each in people.requests)
    assert 0 < asked <= settings.sign_in_account_per_minute + 1


async def test_an_attempt_from_a_known_device_that_nobody_could_decide_is_given_back(
    service: Service, people: People, redis: Any
) -> None:
    mine = {"x-device-token": (await attempt(service, People.PASSWORD)).headers["x-device-token"]}
    people.status = 503
    for _ in range(15):
        assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 503
    people.status = None
    assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 200


@pytest.mark.parametrize("by", ["cookie", "header"])
async def test_the_device_that_followed_a_link_is_known_whatever_strangers_do(
    service: Service, people: People, redis: Any, by: str
) -> None:
    people.links["mailed"] = "ada@example.com"
    mine = {"cookie": "device=link.mailed"} if by == "cookie" else {"x-device-token": "link.mailed"}
    for _ in range(2):  # strangers may use up that it ends the wait once
        await until_locked_for_long(service, redis)
    response = await attempt(service, People.PASSWORD, headers=mine)
    assert response.status_code == 200
    kept = {"x-device-token": response.headers["x-device-token"]}
    assert not kept["x-device-token"].startswith("link.")
    assert (await attempt(service, People.PASSWORD, headers=kept)).status_code == 200
    locked = await until_locked(service, headers=mine)
    assert locked.headers["ratelimit-policy"].startswith('"device"')


async def test_the_wait_stands_while_nobody_can_tell_of_links(
    service: Service, people: People, redis: Any
) -> None:
    people.links["mailed"] = "ada@example.com"
    for _ in range(2):
        await until_locked_for_long(service, redis)
    for status in (404, 422, 500, 503):
        people.status = status
        assert (await attempt(service, People.PASSWORD)).status_code == 429


async def test_guesses_from_a_known_device_spend_its_own_share_alone(service: Service) -> None:
    device = (await attempt(service, People.PASSWORD)).headers["x-device-token"]
    locked = await until_locked(service, headers={"x-device-token": device})
    assert locked.headers["ratelimit-policy"].startswith('"device"')
    assert (await attempt(service, People.PASSWORD)).status_code == 200


@pytest.mark.parametrize("url", ["http://localhost:8080", "https://api.example.com"])
async def test_the_devices_cookie_is_for_no_script_no_other_site_and_no_plain_http(
    redis_url: str, people: People, tmp_path: Any, url: str
) -> None:
    async with started(make_settings(redis_url, people.url, tmp_path, public_url=url)) as service:
        response = await attempt(service, People.PASSWORD)
    said = {part.strip().lower() for part in response.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/auth/token"} <= said
    assert ("secure" in said) is url.startswith("https:")


async def test_a_form_of_another_site_replaces_no_devices_cookie(service: Service) -> None:
    posted_by_a_page = await attempt(service, People.PASSWORD, headers={"sec-fetch-mode": "navigate"})
    assert posted_by_a_page.status_code == 200
    assert "set-cookie" not in posted_by_a_page.headers
    by_a_script = await attempt(service, People.PASSWORD, headers={"sec-fetch-mode": "cors"})
    assert "device=" in by_a_script.headers["set-cookie"]


async def test_a_clock_that_stepped_back_makes_no_wait_longer(service: Service, redis: Any) -> None:
    await until_locked(service)
    ahead = int(time.time() * 1000) + 3_600_000
    async for key in redis.scan_iter("signin:*"):
        if "backoff" in key:
            await redis.hset(key, "until", ahead)
        else:
            await redis.set(key, ahead, keepttl=True)
    response = await attempt(service, People.PASSWORD)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) <= 6  # until the account's next one


async def test_the_back_off_doubles_to_fifteen_minutes_and_ends(service: Service, redis: Any) -> None:
    await until_locked(service)
    [key] = [key async for key in redis.scan_iter("signin:backoff:*")]
    waits = []
    for _ in range(14):
        await redis.hset(key, "until", 0)
        for allowance in [name async for name in redis.scan_iter("signin:[ae]*")]:
            if "backoff" not in allowance:
                await redis.delete(allowance)
        assert (await attempt(service)).status_code == 400
        waits.append(int((await attempt(service)).headers["retry-after"]))
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == 900
    assert 0 < await redis.ttl(key) <= 1800
    await redis.hset(key, "until", 0)
    assert (await attempt(service, People.PASSWORD)).status_code == 200
    assert not await redis.exists(key)


async def test_what_nobody_could_decide_spends_nothing(service: Service, people: People) -> None:
    people.status = 503
    for _ in range(12):
        assert (await attempt(service)).status_code == 503
    people.status = None
    assert (await attempt(service, People.PASSWORD)).status_code == 200


async def test_without_the_limits_store_a_stricter_limit_of_our_own_holds(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    async with started(make_settings(redis_url, people.url, tmp_path, limits_redis_url=nowhere)) as service:
        codes = [(await attempt(service)).status_code for _ in range(4)]
        other = await attempt(service, People.PASSWORD, username="ada@example.com", address="203.0.113.9")
    assert codes == [400, 400, 429, 429]
    assert other.status_code == 429


async def test_without_the_limits_store_too_only_failures_count(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    async with started(make_settings(redis_url, people.url, tmp_path, limits_redis_url=nowhere)) as service:
        codes = [(await attempt(service, People.PASSWORD)).status_code for _ in range(8)]
    assert codes == [200] * 8


async def test_without_the_limits_store_too_a_known_device_is_not_locked_out(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    async with started(make_settings(redis_url, people.url, tmp_path, limits_redis_url=nowhere)) as service:
        device = (await attempt(service, People.PASSWORD)).headers["x-device-token"]
        await until_locked(service)
        assert (await attempt(service, People.PASSWORD)).status_code == 429
        mine = {"x-device-token": device}
        assert (await attempt(service, People.PASSWORD, headers=mine)).status_code == 200


@pytest.mark.quiet
async def test_a_limits_store_that_hangs_holds_nobody_up(
    redis_url: str, people: People, tmp_path: Any
) -> None:
    with testing.redis_server() as limits:
        async with started(
            make_settings(redis_url, people.url, tmp_path, limits_redis_url=limits.url)
        ) as service:
            assert (await attempt(service, People.PASSWORD)).status_code == 200
            limits.pause()
            began = time.monotonic()
            response = await attempt(service, People.PASSWORD)
            limits.resume()
            assert response.status_code == 200
            assert time.monotonic() - began < 2.5


def test_an_account_is_named_without_telling_its_address() -> None:
    devices = Devices(b"k" * 32)
    assert devices.account("Ada@Example.com") == devices.account("ada@example.com")
    assert "ada" not in devices.account("ada@example.com")
    assert fold("jos\u200bé@bücher.example") == fold("José@xn--bcher-kva.example.")


def test_an_endless_name_costs_no_more_than_a_long_one() -> None:
    """Putting marks in order takes the square of their number, and it is done before any limit is asked."""

    def seconds(marks: int) -> float:
        begun = time.thread_time()
        fold("a" + "\u0301\u0327" * marks + "@example.com")
        return time.thread_time() - begun

    assert min(seconds(5000) for _ in range(3)) < 10 * min(seconds(500) for _ in range(3))
