import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    DataError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.infrastructure.redis import RedisUnavailable, connect, redis_errors_translated
from shared.kernel.errors import Misconfigured, Unavailable

SECRET = "canary-7f3a"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("unix:///run/redis.sock", Redis),
        ("redis://localhost:6379/1", Redis),
        ("rediss://user:pass@cache.example:6380", Redis),
        ("redis+cluster://one.example", RedisCluster),
        ("rediss+cluster://user:p%40ss@one.example:7000,[::1]:7001", RedisCluster),
    ],
)
async def test_each_kind_of_url_gives_its_client(url, kind):
    assert isinstance(connect(url), kind)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("unix:///run/redis.sock", UnixDomainSocketConnection),
        ("redis://localhost:6379/1", Connection),
        ("rediss://cache.example:6380", SSLConnection),
    ],
)
@given(arguments=st.lists(st.text() | st.binary() | st.integers() | st.floats()))
async def test_commands_are_packed_in_c_to_the_bytes_that_redis_py_packs(url, plain, arguments):
    connection = connect(url).connection_pool.make_connection()

    packed = connection.pack_command("EVALSHA", *arguments)

    assert isinstance(connection, plain)
    assert type(connection).pack_command is not plain.pack_command
    assert packed == [b"".join(plain.pack_command(connection, "EVALSHA", *arguments))]


@pytest.mark.parametrize("wrong", [None, object(), [1]])
async def test_what_redis_cannot_be_told_is_refused(wrong):
    connection = connect("redis://localhost").connection_pool.make_connection()

    with pytest.raises(DataError):
        connection.pack_command("SET", "key", wrong)


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:port",
        f"redis+cluster://:{SECRET}@one.example:99999",
        f"redis+cluster://:{SECRET}@",
        SECRET,
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url):
    with pytest.raises(Misconfigured) as refused:
        connect(url)

    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (RedisConnectionError("gone"), RedisUnavailable),
        (TimeoutError(), RedisUnavailable),
        (ConnectionResetError(), RedisUnavailable),
        (ReadOnlyError("You can't write against a read only replica."), RedisUnavailable),
        (ClusterDownError("CLUSTERDOWN"), RedisUnavailable),
        (RedisClusterException("no node"), RedisUnavailable),
        (AuthenticationError("wrong"), Misconfigured),
        (NoPermissionError("NOPERM"), Misconfigured),
        (ResponseError("The user executing the script can't run this command"), Misconfigured),
    ],
)
def test_errors_of_redis_become_ours(raised, seen):
    with pytest.raises(seen) as translated, redis_errors_translated():
        raise raised

    assert translated.value.__cause__ is raised


def test_an_unreachable_redis_may_be_tried_again():
    assert issubclass(RedisUnavailable, Unavailable)
    assert RedisUnavailable.retryable
    assert RedisUnavailable.code == "redis_unavailable"
