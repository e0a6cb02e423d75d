"""What happens to the bound when state, servers or processes fail while messages are sent."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]

RATES = {"80": 80, "1000": 1000}
UNUSED = (
    0.25 + 0.05
)  # Slots from before are used up after the horizon; starting to send takes a bit.


@pytest.fixture
def running(start_workers):
    """A function that starts workers and waits until they send."""

    def run(server, url=None, rates=RATES, processes=3):
        workers = start_workers(url or server.url, rates, processes=processes, senders=2)
        workers.wait_until_sending()
        time.sleep(1.0)
        return workers

    return run


def pauses(times, moments):
    """How long after each of `moments` the first send came, slots from before left out."""
    return [next(at for at in times if at > moment + UNUSED) - moment for moment in moments]


def test_lost_keys_and_scripts_cost_a_second_and_no_more(server, running, laws):
    workers, lost = running(server), []
    with server.client() as client:
        for loss in (client.flushall, lambda: client.delete(*client.keys())):
            lost.append(time.monotonic())
            loss()
            time.sleep(2.0)
        client.script_flush()
        time.sleep(0.5)
    sent = workers.stop()

    for number, rate in RATES.items():
        assert laws["most"](sent[number]) <= rate
        assert all(0.9 < pause <= 2.0 for pause in pauses(sent[number], lost))
        assert len(sent[number]) > 1.5 * rate


def test_nothing_is_sent_while_redis_is_gone_and_soon_after_it_is_back(server, running, laws):
    workers = running(server)
    gone = time.monotonic()
    server.kill()
    time.sleep(1.5)
    back = time.monotonic()
    server.start()
    time.sleep(2.5)
    sent = workers.stop()

    for number, rate in RATES.items():
        assert laws["most"](sent[number]) <= rate
        assert not [at for at in sent[number] if gone + UNUSED < at < back]
        assert pauses(sent[number], [back])[0] <= 2.0


def test_a_fail_over_that_loses_the_last_writes_keeps_the_bound(
    start_redis, running, laws, tmp_path
):
    master = start_redis(port=laws["free_port"]())
    replica = start_redis("--replicaof", "127.0.0.1", str(master.port), port=laws["free_port"]())
    address = tmp_path / "redis.sock"  # Workers know the address; who is behind it changes.
    address.symlink_to(master.socket)
    workers = running(master, url=f"unix://{address}")
    with replica.client() as client:
        laws["until"](lambda: client.dbsize() == len(RATES), "the replica does not follow")
        client.replicaof("NO", "ONE")
    time.sleep(0.15)  # What the master hands out now, the replica never hears of.
    point_to(address, replica.socket)
    failed_over = time.monotonic()
    master.kill()
    time.sleep(3.0)
    sent = workers.stop()

    for number, rate in RATES.items():
        assert laws["most"](sent[number]) <= rate
        assert pauses(sent[number], [failed_over])[0] <= 2.0


def point_to(link: Path, target: Path):
    new = link.with_suffix(".new")
    new.symlink_to(target)
    new.rename(link)


def test_a_worker_that_was_stopped_forfeits_its_slots(server, running, laws):
    workers = running(server, rates={"250": 250}, processes=4)
    for turn in range(20):
        stopped = workers.processes[turn % 4].pid
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(0.05)
        os.kill(stopped, signal.SIGCONT)
        time.sleep(0.05)
    sent = workers.stop()

    assert laws["most"](sent["250"]) <= 250
    assert workers.forfeited["250"]


def test_a_killed_worker_takes_no_more_than_its_slots_with_it(server, running, laws):
    workers = running(server, processes=2)
    workers.outs.pop()
    victim = workers.processes.pop()
    victim.kill()
    victim.wait()
    killed = time.monotonic()
    time.sleep(2.0)
    sent = workers.stop()

    assert laws["most"](sent["80"]) <= 80
    assert pauses(sent["80"], [killed])[0] < UNUSED + 0.2


def test_the_rate_in_force_bounds_each_second_while_it_changes(server, running, laws):
    workers = running(server, rates={"1": 80})
    time.sleep(0.5)
    raised = time.monotonic()
    workers.set_rates({"1": 1000})
    time.sleep(3.5)
    lowered = time.monotonic()
    workers.set_rates({"1": 20})
    time.sleep(3.5)
    times = workers.stop()["1"]

    assert laws["most"]([at for at in times if at <= raised]) <= 80
    assert laws["most"](times) <= 1000
    assert laws["used"](times, 1000, since=lowered - 1.5, until=lowered) > 0.9
    # Slots at the old rate may be out for a horizon; then a second passes, then the new rate rules.
    slow = [at for at in times if at > lowered + UNUSED]
    assert slow[0] - lowered > 0.9
    assert laws["most"](slow) <= 20
    assert laws["used"](slow, 20, since=slow[0], until=slow[-1]) > 0.9
