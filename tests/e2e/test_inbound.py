"""What customers write reaches the right tenant, once, whatever stands beside it in a webhook."""

import asyncio
import json
from uuid import UUID

import asyncpg
import pytest

from tellwire.embedded.postgres import EmbeddedPostgres


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(360)
async def test_inbound_messages_are_stored_once_in_the_tenant_whose_number_it_is(
    stack,
) -> None:
    ana = await stack.new_sender("Ana's Bakery", "3001")
    bea = await stack.new_sender("Bea's Bikes", "3002")
    await stack.control("webhooks", duplicate=0.5, shuffle=True)

    for sender, number in ((ana, 40), (bea, 25)):
        await stack.control(
            "inbound",
            phone_number_id=sender.phone_number_id,
            **{"from": "4915112345678"},
            type="text",
            count=number,
        )
    await stack.control("inbound", phone_number_id="9999", **{"from": "4915112345678"}, type="text")

    assert await until(stack, ana, 40) == 40
    assert await until(stack, bea, 25) == 25


async def until(stack, sender, expected: int) -> int:
    """How many inbound messages a tenant has, at the latest after 30 seconds."""
    limit = asyncio.get_running_loop().time() + 30
    while True:
        found = await stored(stack, sender)
        if found >= expected or asyncio.get_running_loop().time() > limit:
            return found
        await asyncio.sleep(0.1)


async def stored(stack, sender) -> int:
    """As the application's role under the tenant's context, with a look at whose rows they are."""
    server = EmbeddedPostgres(stack.directory / "data" / "postgres")
    connection = await asyncpg.connect(server.url("tellwire_app").replace("+asyncpg", ""))
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT set_config('app.jwt_tenant', $1, true)", sender.tenant_id
            )
            rows = await connection.fetch(
                "SELECT tenant_id, wamid, body FROM whatsapp_inbound_messages"
            )
    finally:
        await connection.close()
    assert {row["tenant_id"] for row in rows} <= {UUID(sender.tenant_id)}
    assert len({row["wamid"] for row in rows}) == len(rows)
    assert all("body" in json.loads(row["body"]) for row in rows)
    return len(rows)
