"""What commands are given of an installation."""

from shared.infrastructure.database.tenant_context import current_context
from tellwire.installation import open_installation


async def test_no_tenants_context_is_open_while_tenants_are_named(world, ana, bea) -> None:
    """Whoever stops listening in between, as `| head -1` does, would leave it open."""
    contexts, named = set(), set()
    async with open_installation(world.settings) as installation:
        async for one in installation.named_tenants():
            contexts.add(current_context())
            named.add(one.id)

    assert {ana.tenant_id, bea.tenant_id} <= named
    assert contexts == {None}
