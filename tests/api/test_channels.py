"""A tenant's numbers over HTTP: taken in, verified, changed, stopped and let go on."""

import pytest

from shared.kernel.ids import new_id
from tenancy.domain import Scope
from whatsapp.application.add_channel import VerifyChannel
from whatsapp.domain.phone_number_info import PhoneNumberInfo

NEW = {"name": "Second", "phone_number_id": "2002", "access_token": "EAAG-canary-new"}
SETTINGS = {
    "messages_per_second": 250,
    "keeps_order": False,
    "window_policy": "allow",
    "on_unknown": "hold",
    "provider_account_id": "77",
    "app_id": "88",
}


@pytest.fixture
def call(client, ana):
    async def call(method, path="", body=None, *, customer=ana):
        url = f"/v1/channels{path}"
        answer = await client.request(method, url, json=body, headers=customer.headers)
        assert "canary" not in answer.text
        return answer

    return call


@pytest.fixture
def meta(monkeypatch):
    """What Meta says of every number that is asked about."""
    said = {}

    async def get_phone_number(_self, *, phone_number_id, token):
        said["token"] = token.reveal()
        return PhoneNumberInfo(phone_number_id=phone_number_id, **said["info"])

    class Directory:
        pass

    Directory.get_phone_number = get_phone_number
    original = VerifyChannel.__call__

    async def verify(self, *given, **named):
        return await original(
            VerifyChannel(begin=self.begin, directory=Directory(), now=self.now), *given, **named
        )

    monkeypatch.setattr(VerifyChannel, "__call__", verify)
    return said


async def test_a_channel_is_created_with_every_setting_and_waits_for_its_verification(call) -> None:
    made = await call("POST", body={**NEW, **SETTINGS})

    assert made.status_code == 201
    shown = made.json()
    assert {name: shown[name] for name in SETTINGS} == SETTINGS
    assert (shown["status"], shown["token_readable"]) == ("pending", True)
    assert made.headers["location"] == f"/v1/channels/{shown['id']}"
    assert (await call("GET", f"/{shown['id']}")).json() == shown


async def test_what_is_left_out_has_the_documented_defaults(call) -> None:
    shown = (await call("POST", body=NEW)).json()

    assert (shown["messages_per_second"], shown["keeps_order"]) == (80, True)
    assert (shown["window_policy"], shown["on_unknown"]) == ("enforce", "category")


async def test_one_number_makes_one_channel_of_a_tenant(call, bea) -> None:
    assert (await call("POST", body=NEW)).status_code == 201
    again = await call("POST", body=NEW)

    assert (again.status_code, again.json()["code"]) == (409, "channel_already_exists")
    assert (await call("POST", body=NEW, customer=bea)).status_code == 201


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": ""}, "name"),
        ({"phone_number_id": "+49 151"}, "phone_number_id"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": "EAAG canary\n"}, "access_token"),
        ({"messages_per_second": 0}, "messages_per_second"),
        ({"messages_per_second": True}, "messages_per_second"),
        ({"messages_per_second": "80"}, "messages_per_second"),
        ({"on_unknown": "guess"}, "on_unknown"),
        ({"window_policy": "maybe"}, "window_policy"),
        ({"keeps_order": "sometimes"}, "keeps_order"),
        ({"keeps_order": "yes"}, "keeps_order"),
        ({"keeps_order": 1}, "keeps_order"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_stored(call, wrong, field) -> None:
    refused = await call("POST", body={**NEW, **wrong})

    assert refused.status_code == 422
    problem = refused.json()
    fields = [problem.get("field"), *(one["field"] for one in problem.get("errors", ()))]
    assert field in fields
    assert len((await call("GET")).json()["data"]) == 1


async def test_a_change_touches_what_it_names_alone(call, ana) -> None:
    path = f"/{ana.channel_id}"
    before = (await call("GET", path)).json()

    changed = await call("PATCH", path, {**SETTINGS, "name": "Renamed"})
    back = await call("PATCH", path, {"app_id": None, "name": None, "on_unknown": "resend"})

    assert changed.status_code == back.status_code == 200
    expected = {**before, **SETTINGS, "name": "Renamed"}
    now = changed.json()
    assert {**now, "updated_at": 0} == {**expected, "updated_at": 0}
    assert {**back.json(), "updated_at": 0} == {
        **now,
        "app_id": None,
        "on_unknown": "resend",
        "updated_at": 0,
    }


async def test_a_wrong_change_names_its_field_and_changes_nothing(call, ana) -> None:
    path = f"/{ana.channel_id}"
    before = (await call("GET", path)).json()
    refused = await call("PATCH", path, {"on_unknown": "hold", "messages_per_second": 10_001})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "messages_per_second"
    assert (await call("GET", path)).json() == before


async def test_a_pause_keeps_its_reason_and_is_logged_once(call, ana, caplog) -> None:
    path = f"/{ana.channel_id}"
    paused = await call("POST", f"{path}/pause", {"reason": "Stocktaking"})
    again = await call("POST", f"{path}/pause")

    assert (paused.json()["status"], paused.json()["pause_reason"]) == ("paused", "Stocktaking")
    assert again.json()["pause_reason"] == "Stocktaking"
    lines = [r.getMessage() for r in caplog.records if "paused" in r.getMessage()]
    assert lines == [f"channel {ana.channel_id} paused: by_operator"]

    resumed = await call("POST", f"{path}/resume")
    assert (resumed.json()["status"], resumed.json()["pause_reason"]) == ("active", None)
    twice = await call("POST", f"{path}/resume")
    assert (twice.status_code, twice.json()["code"]) == (409, "channel_not_active")


async def test_a_number_that_meta_lets_send_is_verified_with_its_new_token(call, meta) -> None:
    made = (await call("POST", body=NEW)).json()
    path = f"/{made['id']}"
    rotated = await call("PUT", f"{path}/token", {"access_token": "EAAG-canary-next"})
    meta["info"] = {"status": "CONNECTED", "quality_rating": "RED"}

    verified = await call("POST", f"{path}/verify")

    assert (rotated.status_code, verified.status_code) == (200, 200)
    assert meta["token"] == "EAAG-canary-next"
    shown = verified.json()
    assert (shown["status"], shown["quality_rating"]) == ("active", "RED")
    assert shown["warnings"] == ["its quality is RED: Meta may restrict it"]


async def test_a_number_that_cannot_send_stays_as_it_was(call, meta) -> None:
    made = (await call("POST", body=NEW)).json()
    meta["info"] = {"status": "DISCONNECTED"}

    refused = await call("POST", f"/{made['id']}/verify")

    assert (refused.status_code, refused.json()["code"]) == (409, "channel_not_active")
    assert "DISCONNECTED" in refused.json()["detail"]
    assert (await call("GET", f"/{made['id']}")).json() == made


async def test_without_meta_nothing_is_verified(call, ana) -> None:
    refused = await call("POST", f"/{ana.channel_id}/verify")

    assert (refused.status_code, refused.json()["code"]) == (503, "meta_unreachable")


async def test_a_token_must_be_one(call, ana) -> None:
    refused = await call("PUT", f"/{ana.channel_id}/token", {"access_token": "EAAG canary"})

    assert (refused.status_code, refused.json()["field"]) == (422, "access_token")


async def test_limits_show_what_is_free_and_what_waits(call, client, ana, world) -> None:
    path = f"/{ana.channel_id}"
    await call("PATCH", path, {"messages_per_second": 20})
    for number, priority in enumerate(["high", "normal", "bulk", "bulk"]):
        body = {
            "channel_id": str(ana.channel_id),
            "to": "+4915550000001",
            "text": {"body": f"{number}"},
            "priority": priority,
        }
        answer = await client.post("/v1/messages", json=body, headers=ana.headers)
        assert answer.status_code == 202
    await world.query(
        "UPDATE whatsapp_send_queue SET lane = 12, state = 'retrying' WHERE id = "
        "(SELECT id FROM whatsapp_send_queue WHERE channel_id = :c AND lane IN (2, -8) LIMIT 1)",
        c=ana.channel_id,
    )

    limits = (await call("GET", f"{path}/limits")).json()

    assert limits["messages_per_second"] == 20
    assert limits["queue"] == {"high": 1, "normal": 1, "bulk": 1, "retrying": 1, "unknown": 0}
    assert 0 <= limits["remaining"] <= 20


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine"}),
        ("POST", "/verify", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("PUT", "/token", {"access_token": "EAAG-2"}),
        ("GET", "/limits", None),
    ],
)
async def test_another_tenants_channel_is_not_there(call, ana, bea, method, suffix, body) -> None:
    before = (await call("GET", f"/{ana.channel_id}")).json()
    answer = await call(method, f"/{ana.channel_id}{suffix}", body, customer=bea)
    nobody = await call(method, f"/{new_id()}{suffix}", body)

    assert (answer.status_code, answer.json()["code"]) == (404, "channel_not_found")
    assert nobody.status_code == 404
    assert (await call("GET", f"/{ana.channel_id}")).json() == before


async def test_reading_a_channel_does_not_allow_to_change_it(world, client, ana) -> None:
    reader = await world.api_key(ana.tenant_id, Scope.CHANNELS_READ)
    headers = {"Authorization": f"Bearer {reader}"}
    path = f"/v1/channels/{ana.channel_id}"

    assert (await client.get(path, headers=headers)).status_code == 200
    for method, url, body in (
        ("POST", "/v1/channels", NEW),
        ("PATCH", path, {"name": "x"}),
        ("POST", f"{path}/verify", None),
        ("POST", f"{path}/pause", None),
        ("POST", f"{path}/resume", None),
        ("PUT", f"{path}/token", {"access_token": "EAAG-2"}),
    ):
        answer = await client.request(method, url, json=body, headers=headers)
        assert answer.status_code == 403, (method, url)


async def test_an_unreadable_token_is_shown_as_such_and_mended(call, ana, world) -> None:
    path = f"/{ana.channel_id}"
    await world.query(
        "UPDATE whatsapp_channels SET access_token = substr(access_token, 1, 40) WHERE id = :id",
        id=ana.channel_id,
    )

    assert (await call("GET", path)).json()["token_readable"] is False
    assert [one["token_readable"] for one in (await call("GET")).json()["data"]] == [False]
    refused = await call("POST", f"{path}/verify")
    assert (refused.status_code, refused.json()["code"]) == (409, "access_token_unreadable")
    await call("POST", f"{path}/pause")
    refused = await call("POST", f"{path}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "access_token_unreadable")

    mended = await call("PUT", f"{path}/token", {"access_token": "EAAG-canary-mended"})
    resumed = await call("POST", f"{path}/resume")

    assert mended.json()["token_readable"] is True
    assert resumed.json()["status"] == "active"


async def test_pages_of_channels_follow_the_cursor(call, world, ana) -> None:
    ids = [str(ana.channel_id)]
    ids += [str((await world.channel(ana.tenant_id)).id) for _ in range(4)]

    found, cursor = [], ""
    while cursor is not None:
        page = (await call("GET", f"?limit=2{cursor and f'&cursor={cursor}'}")).json()
        assert len(page["data"]) <= 2
        found += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]

    assert found == ids
