import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


@pytest.fixture
def query():
    """Rows as the superuser sees them, past every policy."""

    async def query(url, statement):
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            rows = list(await connection.execute(text(statement)))
        await engine.dispose()
        return rows

    return query
