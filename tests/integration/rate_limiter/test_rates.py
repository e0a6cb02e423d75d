"""Many processes, real time: never over the rate, and never idle under it."""

import time

import pytest

pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("rate_limiter")]

RATES = {"20": 20, "80": 80, "250": 250, "1000": 1000}  # Number -> rate.
SECONDS = 6.0


@pytest.mark.parametrize(
    ("processes", "senders"), [(1, 4), (4, 2), pytest.param(8, 2, marks=pytest.mark.soak)]
)
def test_processes_together_keep_each_rate_and_use_it(
    server, start_workers, laws, processes, senders
):
    workers = start_workers(server.url, RATES, processes=processes, senders=senders)
    workers.wait_until_sending()
    time.sleep(SECONDS + 0.5)
    sent = workers.stop()

    for number, rate in RATES.items():
        assert laws["most"](sent[number]) <= rate
        laws["assert_used"](workers, sent, number, rate, seconds=SECONDS)
