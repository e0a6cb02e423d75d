"""A client library of Meta's API, unchanged, sends through Tellwire: all it gets is another URL."""

import asyncio

import aiohttp
import pytest
from pywa.errors import ExpiredAccessToken, ReEngagementMessage, WhatsAppError
from pywa_async import WhatsApp, types
from pywa_async.types.templates import BodyText, TemplateLanguage

from whatsapp.domain.entities import WindowPolicy
from whatsapp.domain.value_objects import message_id_behind

USER_ID = "US.13491208655302741918"
"""Somebody without a number: as long as Meta's ids, or pywa takes it for a group."""
TO = "14155550100"


def client_of(stack, sender, key=None):
    client = WhatsApp(phone_id=sender.phone_number_id, token=key or sender.api_key, server=None)
    client.api._session.base_url = f"{stack.api}/v23.0"
    return client


def card():
    """An address card with something in every list, as Meta wants it."""
    of = types.Contact
    return of(
        name=of.Name(formatted_name="Bea", first_name="Bea"),
        birthday="1990-01-31",
        org=of.Org(company="Bikes", department="Sales", title="Owner"),
        phones=[of.Phone(phone="+14155550101", type="CELL")],
        emails=[of.Email(email="bea@example.com", type="WORK")],
        urls=[of.Url(url="https://example.com", type="WORK")],
        addresses=[of.Address(city="Berlin")],
    )


async def write(stack, number):
    """A customer writes; gives Meta's id of it."""
    body = {"phone_number_id": number, "type": "text", "from": TO}
    return (await stack.control("inbound", **body))["ids"][0]


async def upload(stack, number):
    """A picture that Meta knows; gives Meta's id of it."""
    form = aiohttp.FormData({"messaging_product": "whatsapp", "type": "image/png"})
    form.add_field("file", b"\x89PNG", filename="a.png", content_type="image/png")
    async with stack.http.post(
        f"{stack.simulator}/v23.0/{number}/media",
        data=form,
        headers={"Authorization": f"Bearer EAAG{number}"},
    ) as answer:
        return (await answer.json())["id"]


async def send_every_kind(pywa, uploaded):
    button = types.Button(title="Yes", callback_data="yes")
    section = types.Section(
        title="Sizes", rows=[types.SectionRow(title="Small", callback_data="s")]
    )
    first = await pywa.send_message(TO, "Hello", tracker="tracker-1")
    return [
        first,
        await pywa.send_message(TO, "Again", reply_to_message_id=first.id),
        await pywa.send_message(TO, "Choose", buttons=[button]),
        await pywa.send_message(TO, "Pick", buttons=types.SectionList("Open", [section])),
        await pywa.send_message(TO, "Look", buttons=types.URLButton("Open", "https://example.com")),
        await pywa.send_image(TO, "https://example.com/a.png", caption="Picture"),
        await pywa.send_video(TO, "https://example.com/a.mp4"),
        await pywa.send_audio(TO, "https://example.com/a.ogg"),
        await pywa.send_sticker(TO, "https://example.com/a.webp"),
        await pywa.send_document(TO, "https://example.com/a.pdf", filename="a.pdf"),
        await pywa.send_location(TO, -33.4, -70.6, name="Santiago"),
        await pywa.send_contact(TO, card()),
        await pywa.send_template(
            TO,
            name="order_update",
            language=TemplateLanguage.ENGLISH_US,
            params=[BodyText.params("Ana", "42")],
        ),
        *await send_what_is_rare(pywa, uploaded),
    ]


async def send_what_is_rare(pywa, uploaded):
    """What shops, flows and callers send, media by its id, and to somebody without a number."""
    button = types.URLButton("Open", "https://example.com")
    cards = [
        types.ImageCarouselCard(body=f"Card {n}", image="https://example.com/a.png", buttons=button)
        for n in range(2)
    ]
    flow = types.FlowButton(
        "Book", flow_id="77", flow_token="t", flow_action_type="navigate", flow_action_screen="ONE"
    )
    return [
        await pywa.request_location(TO, "Where are you?"),
        await pywa.send_message(TO, "Book here", buttons=flow),
        await pywa.send_message(TO, "May we call?", buttons=types.CallPermissionRequestButton()),
        await pywa.send_message(TO, "Call us", buttons=types.VoiceCallButton("Call")),
        await pywa.send_message(TO, "Your number?", buttons=types.ContactInfoRequestButton()),
        await pywa.send_catalog(TO, "Our catalogue", thumbnail_product_sku="sku-1"),
        await pywa.send_product(TO, "catalogue-1", "sku-1", body="This one"),
        await pywa.send_products(
            TO, "catalogue-1", [types.ProductsSection("Bread", ["sku-1", "sku-2"])], "Shop", "Buy"
        ),
        await pywa.send_carousel(TO, body="Swipe", cards=cards),
        await pywa.send_image(TO, uploaded),
        await pywa.send_message(USER_ID, "To a user id"),
    ]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(540)
async def test_pywa_works_against_tellwire_with_another_url_and_token(stack) -> None:
    ana = await stack.new_sender("Ana's Bakery", "4001")
    pywa = client_of(stack, ana)
    try:
        sent = await send_every_kind(pywa, await upload(stack, ana.phone_number_id))
        ids = [str(message_id_behind(one.id)) for one in sent]
        ended = await stack.follow(ana, ids, within=60)
        failures = {one["type"]: one["failure"] for one in ended.values() if one["failure"]}
        assert failures == {}
        assert {one["status"] for one in ended.values()} == {"read"}, stack.logs()
        assert [one["recipient"] for one in ended.values() if not one["to"]] == [USER_ID]
        assert len({one.id for one in sent}) == len(sent)

        log = await stack.control("log?limit=1000")
        texts = {entry["type"] for entry in log["entries"] if entry["kind"] == "message"}
        assert {"text", "interactive", "image", "contacts", "template"} <= texts

        # A receipt for what a customer wrote goes through to Meta at once.
        heard = await write(stack, "4001")
        assert await pywa.mark_message_as_read(heard)
        assert await pywa.indicate_typing(heard)
        reaction = await pywa.send_reaction(TO, "\N{THUMBS UP SIGN}", heard)
        ident = str(message_id_behind(reaction.id))
        followed = await stack.follow(ana, [ident], within=3)
        assert followed[ident]["status"] != "failed"
        with pytest.raises(WhatsAppError) as unknown:
            await pywa.mark_message_as_read("wamid.unknown")
        assert unknown.value.code == 131009
    finally:
        await pywa.api._session.aclose()

    strict = await stack.new_sender("Bea's Bikes", "4002", window_policy=WindowPolicy.ENFORCE)
    for client, error in (
        (client_of(stack, strict), ReEngagementMessage),
        (client_of(stack, ana, key="EAAGmeta"), ExpiredAccessToken),
    ):
        with pytest.raises(error):
            await client.send_message(TO, "Hello")
        await client.api._session.aclose()

    # Once the customer has written, free text passes.
    await write(stack, "4002")
    client = client_of(stack, strict)
    async with asyncio.timeout(20):
        while True:
            try:
                await client.send_message(TO, "Hello")
                break
            except ReEngagementMessage:
                await asyncio.sleep(0.1)
    await client.api._session.aclose()
