"""Every element of every body reaches whom it belongs to, once, whatever stands beside it."""

import asyncio
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from webhook_bodies import APP, body, inbound_to, messages_of, new_wamid, number_of, status_of
from whatsapp.domain.webhook import InboundReceived, StatusReported
from whatsapp.infrastructure.cloud_api.webhooks import parse_webhook

PAYLOADS = Path(__file__).parents[2] / "contract/payloads"
WEBHOOKS = ("inbound", "status", "field", "trouble")
TABLES = (
    "whatsapp_inbound_messages",
    "whatsapp_status_events",
    "whatsapp_account_events",
    "webhook_digests",
    "webhook_quarantine",
)

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(module_database):
    """Each test has tenants of its own; one database does for all."""
    return module_database


async def test_a_thousand_with_one_poison_and_one_unknown_number_of_two_tenants(
    intake, ana, bea
) -> None:
    """Case 42: 998 are stored in the right tenants, two are kept aside."""
    wamids = [new_wamid() for _ in range(998)]
    poison = new_wamid()
    intake.poison.add(poison)
    changes = [inbound_to((ana, bea)[n % 2], wamid) for n, wamid in enumerate(wamids)]
    changes.insert(400, inbound_to(ana, poison))
    changes.insert(700, messages_of("999999", messages=[{"id": "x"}]))

    await intake.take_in(body(*changes))
    assert await intake.column("SELECT count(*) FROM webhook_inbox") == [1]
    await intake.wait_out_leases(attempts=4)

    assert await intake.inbound(ana) == sorted(wamids[::2])
    assert await intake.inbound(bea) == sorted(wamids[1::2])
    assert sorted(await intake.quarantine()) == [
        "message without a believable timestamp",
        "unforeseen",
    ]
    assert await intake.column("SELECT count(*) FROM webhook_inbox") == [0]
    assert intake.counted["any", "quarantined"] == 2
    # What was kept aside is the element alone, as Meta wrote it.
    (raw,) = await intake.column("SELECT raw FROM webhook_quarantine WHERE reason = 'unforeseen'")
    assert json.loads(raw)["id"] == poison


async def test_what_broke_is_stored_where_it_can_be_later(intake, ana) -> None:
    wamid = new_wamid()
    intake.poison.add(wamid)
    await intake.take_in(body(inbound_to(ana, wamid)))
    assert await intake.inbound(ana) == []

    intake.poison.clear()
    await intake.wait_out_leases()

    assert await intake.inbound(ana) == [wamid]
    assert await intake.quarantine() == []


async def test_what_nobody_understands_is_kept_with_the_tenant_whose_number_it_is(
    intake, ana, bea
) -> None:
    odd = {"id": "wamid.odd", "status": "teleported", "timestamp": "1795420800"}
    wamid = new_wamid()
    both = messages_of(ana, statuses=[odd], messages=inbound_to(ana, wamid)["value"]["messages"])

    await intake.take_in(body(both), body(both, inbound_to(bea)))

    assert await intake.kept(ana) == [("messages", "status 'teleported' is not known")]
    assert await intake.kept(bea) == []
    assert await intake.inbound(ana) == [wamid]
    assert intake.counted["unknown", "kept unread"] == 1


async def test_trouble_of_a_number_is_kept_with_its_tenant(intake, ana) -> None:
    trouble = messages_of(ana, errors=[{"code": 130429, "title": "Rate limit hit"}])
    await intake.take_in(body(trouble))

    assert await intake.kept(ana) == [("messages", "errors of the number itself")]


async def test_a_number_that_is_bound_to_an_app_is_heard_from_that_app_alone(intake, ana) -> None:
    await intake.superuser.execute(
        "UPDATE whatsapp_channels SET app_id = $1 WHERE id = $2", APP, ana.channel.id
    )
    forged, real = new_wamid(), new_wamid()
    await intake.take_in(body(inbound_to(ana, forged)), app_id="another-app")
    await intake.take_in(body(inbound_to(ana, real)))

    assert await intake.inbound(ana) == [real]
    assert await intake.quarantine() == ["a number that no channel has"]


async def test_followers_hear_of_what_is_new_and_of_nothing_twice(intake, ana) -> None:
    wamid = new_wamid()
    first = body(inbound_to(ana, wamid), status_of(ana, "wamid.of.others"))
    again = body(status_of(ana, "wamid.of.others"), inbound_to(ana, wamid))

    await intake.take_in(first, again)

    heard = [applied for _, applied in intake.followed]
    assert [one.received.wamid for applied in heard for one in applied.inbound] == [wamid]
    assert [one.message_id for applied in heard for one in applied.statuses] == [None]


@st.composite
def streams(draw):
    """Elements of two tenants; delivered in any order, some again, cut into bodies at will."""
    kinds = st.sampled_from(["inbound", "sent", "delivered", "read"])
    elements = draw(st.lists(st.tuples(st.integers(0, 1), kinds, st.integers(0, 4)), min_size=1))
    again = draw(st.lists(st.sampled_from(elements), max_size=5))
    order = draw(st.permutations(elements + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)))
    broken = draw(st.lists(st.integers(0, len(order)), max_size=3))
    return elements, [order[a:b] for a, b in pairwise([0, *cuts, len(order)]) if a < b], broken


async def test_however_a_stream_is_cut_mixed_and_repeated_each_tenant_has_its_own_once(
    intake, ana, bea
) -> None:
    loop = asyncio.get_running_loop()

    async def play(stream) -> None:
        elements, bodies, broken = stream
        for table in ("whatsapp_inbound_messages", "whatsapp_status_events", "webhook_digests"):
            await intake.superuser.execute(f"DELETE FROM {table}")  # noqa: S608  # our tables
        made = [
            body(*(_change((ana, bea)[who], kind, n) for who, kind, n in cut)) for cut in bodies
        ]
        for place in broken:
            made.insert(place, random.Random(place).randbytes(50))
        await intake.take_in(*made)
        for who, customer in enumerate((ana, bea)):
            own = {(kind, n) for whose, kind, n in elements if whose == who}
            assert await intake.inbound(customer) == sorted(
                f"in.{n}" for kind, n in own if kind == "inbound"
            )
            assert await intake.reports(customer) == sorted(
                f"out.{n} {kind}" for kind, n in own if kind != "inbound"
            )

    @settings(max_examples=30, suppress_health_check=list(HealthCheck), database=None)
    @given(streams())
    def law(stream) -> None:
        asyncio.run_coroutine_threadsafe(play(stream), loop).result(60)

    await asyncio.to_thread(law)


def _change(customer, kind, number):
    if kind == "inbound":
        return inbound_to(customer, f"in.{number}")
    return status_of(customer, f"out.{number}", kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def mutate(value, draw):
    """The value with something in it that Meta would not write."""
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        changed = draw(st.sampled_from(["drop", "replace", "within"]))
        if changed == "drop":
            return {name: one for name, one in value.items() if name != key}
        return value | {key: draw(JSON) if changed == "replace" else mutate(value[key], draw)}
    if isinstance(value, list) and value:
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutate(value[place], draw), *value[place + 1 :]]
    return draw(JSON)


def changes_of_files(customer):
    """The changes in all files of payloads, about a customer's number and account."""
    files = [path for folder in WEBHOOKS for path in sorted((PAYLOADS / folder).iterdir())]
    texts = [
        path.read_text()
        .replace("106540352242922", number_of(customer))
        .replace("102290129340398", "waba-1")
        for path in files
    ]
    return [one for text in texts for one in json.loads(text)["entry"][0]["changes"]]


def written(value):
    """What a JSON value says: PostgreSQL writes large numbers in digits of its own."""
    return json.dumps(json.loads(json.dumps(value), parse_int=float), sort_keys=True)


def places(element, whole):
    """Where an element may be in the end: stored as what it is, or kept as Meta wrote it."""
    found = {("kept", written(element.raw)), ("aside", written(element.raw))}
    if element.raw is None:  # Of what holds no JSON the whole body is put aside.
        found.add(("aside", written(json.loads(whole))))
    if isinstance(element, InboundReceived):
        found.add(("inbound", element.wamid))
    if isinstance(element, StatusReported):
        found.add(("status", f"{element.wamid} {element.status}"))
    return found


async def everything(intake, customer):
    """All that is stored, kept and put aside; may be less than came where things are repeated."""
    kept = await intake.column(
        "SELECT raw FROM whatsapp_account_events WHERE tenant_id = $1", customer.tenant_id
    )
    aside = await intake.column("SELECT raw FROM webhook_quarantine")
    return [
        *(("inbound", wamid) for wamid in await intake.inbound(customer)),
        *(("status", report) for report in await intake.reports(customer)),
        *(("kept", written(json.loads(raw))) for raw in kept),
        *(("aside", written(json.loads(raw))) for raw in aside),
    ]


async def test_no_mutated_body_is_lost_or_takes_its_neighbours_along(intake, account) -> None:
    """Each element of a body is in one place in the end, and the good message beside it stored."""
    loop = asyncio.get_running_loop()

    async def play(*odd) -> None:
        for table in TABLES:
            await intake.superuser.execute(f"DELETE FROM {table}")  # noqa: S608  # our tables
        wamid = new_wamid()
        told = [*odd, inbound_to(account, wamid)]
        entries = [{"id": "waba-1", "changes": [one]} for one in told]
        whole = json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()
        await intake.take_in(whole)

        found = await everything(intake, account)
        elements = parse_webhook(whole).elements
        here = [places(element, whole) & set(found) for element in elements]
        assert [len(one) for one in here] == [1] * len(elements)
        assert set().union(*here) == set(found)
        assert len(found) <= len(elements)
        assert ("inbound", wamid) in found
        assert await intake.column("SELECT count(*) FROM webhook_inbox") == [0]

    @settings(
        max_examples=60,
        phases=[Phase.generate],  # each example takes its time: a failure is shown as it is
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.data())
    def law(data) -> None:
        base = data.draw(st.sampled_from(bases))
        asyncio.run_coroutine_threadsafe(play(mutate(base, data.draw)), loop).result(60)

    bases = [
        *changes_of_files(account),
        inbound_to(account, "wamid.base", context={"id": "wamid.x", "from": "1"}),
        status_of(account, "wamid.base", "failed", errors=[{"code": 1, "title": "x"}]),
    ]
    await play(*bases)
    await asyncio.to_thread(law)


async def test_random_bytes_end_in_quarantine_whole(intake, ana) -> None:
    noise = [random.Random(seed).randbytes(seed) for seed in range(1, 60)]
    wamid = new_wamid()
    await intake.take_in(*noise, body(inbound_to(ana, wamid)), *[b"[" * 100_000, b"null", b"0"])

    kept = await intake.column("SELECT raw FROM webhook_quarantine")
    assert sorted(kept) == sorted([*noise, b"[" * 100_000, b"null", b"0"])
    assert await intake.inbound(ana) == [wamid]


async def test_truncated_bodies_are_kept_and_the_whole_one_still_counts(intake, ana) -> None:
    wamid = new_wamid()
    whole = body(inbound_to(ana, wamid))
    await intake.take_in(*(whole[:cut] for cut in range(10, len(whole), 17)), whole)

    assert await intake.inbound(ana) == [wamid]
    assert len(await intake.quarantine()) == len(range(10, len(whole), 17))
    assert number_of(ana) == "1001"
