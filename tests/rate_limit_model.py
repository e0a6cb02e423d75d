"""What `rate_limiter.lua` does, once more in plain Python, and a world in which to try it.

The model is the oracle of the script: both are given the same calls at the same simulated times and
must answer alike. The world moves time and clocks, loses keys, fails over and lets workers be late,
and keeps the time of each send for the laws to judge.
"""

import itertools
import math
from datetime import timedelta

from hypothesis import strategies as st

from whatsapp.infrastructure.persistence.repositories.rate_limiter import RedisRateLimiter

SECOND = 1_000_000
CHANGE = 500_000
NORMALLY_LATE, MAX_LATE = 8_000, 250_000
SPACED_SECOND = SECOND + NORMALLY_LATE
MAX_HORIZON = 250_000
BACKSTEP = 100_000
LOWEST_SHARE = 500
LAST_MOMENT = -1


class Model:
    """One number's key and the script that works on it."""

    def __init__(self):
        self.kept = None

    def drop(self):
        self.kept = None

    def snapshot(self):
        return self.kept

    def restore(self, snapshot):
        self.kept = snapshot

    def call(self, now, server, operation, *args):
        asked, *args = args
        self.server = server
        trusted = self._load(now, server, asked)
        reply = getattr(self, f"_{operation}")(now, asked, *args)
        if operation != "peek" or not trusted:
            self._save(now, server)
        return [server, now, *reply]

    def _load(self, now, server, asked):
        trusted = False
        if self.kept is None:
            self.free = self.fixed = self.spacing = self.learned = self.until = 0
            self.share = 1000
        else:
            *kept, self.tail, writer = self.kept
            self.free, self.fixed, last, self.spacing, self.learned, self.share, self.until = kept
            trusted = writer == server and last - now <= BACKSTEP
            if not trusted:
                self.free += now - last
                self.fixed = max(0, self.fixed + now - last)
                self.learned = max(0, self.learned + now - last)
                self.until = max(0, self.until + now - last)
        if not trusted:
            pause = max(SECOND, MAX_HORIZON + MAX_LATE + max(self.spacing, asked))
            self.free, self.tail = max(self.free, now + pause), NORMALLY_LATE
            self.fixed = max(self.fixed, now + SECOND)
        return trusted

    def _save(self, now, server):
        kept = (self.free, self.fixed, now, self.spacing, self.learned, self.share, self.until)
        self.kept = (*kept, self.tail, server)

    def _learned_at(self, now, asked, learned):
        if learned is not None:
            return min(now, learned)
        return now if asked >= self.spacing else now - CHANGE

    def _in_force(self, now, asked, learned=None):
        return asked if self._learned_at(now, asked, learned) >= self.learned else self.spacing

    def _free_at(self, now, chosen):
        start = max(self.fixed, now)
        if chosen >= self.spacing or self.free <= start:
            return self.free
        return start + math.ceil((self.free - start) * chosen / self.spacing)

    def _adopt(self, now, asked, learned=None):
        chosen = self._in_force(now, asked, learned)
        if asked == chosen:
            self.learned = max(self.learned, self._learned_at(now, asked, learned))
        if chosen > self.spacing > 0:
            self.fixed = max(self.fixed, self.free - self.spacing + SECOND + self.tail)
        self.free = max(self._free_at(now, chosen), self.fixed)
        self.spacing = chosen

    def _step(self, now, width):
        if self.until <= now:
            self.share = 1000
        return math.ceil(width * 1000 / self.share)

    def _first(self, now, free, late):
        return max(free + max(0, self.tail - late), now)

    def _peek(self, now, asked):
        kept = self.share
        chosen = self._in_force(now, asked)
        step = self._step(now, chosen)
        start = self._first(now, self._free_at(now, chosen), NORMALLY_LATE)
        self.share = kept  # A look changes nothing.
        return [step, max(0, (now + SECOND - 1 - start) // step + 1), start, start - now]

    def _hold(self, now, _, duration):
        self.free, self.fixed = max(self.free, now + duration), max(self.fixed, now + duration)
        return [0, 0, 0, 0]

    def _slow(self, now, _, factor, duration):
        self._step(now, 0)
        if self.until <= now or now - (self.until - duration) >= SECOND:
            self.share = max(LOWEST_SHARE, self.share * factor // 1000)
        self.until = max(self.until, now + duration)
        return [0, 0, 0, 0]

    def _debit(self, now, asked, count):
        self._adopt(now, asked)
        step, start = self._step(now, self.spacing), max(self.free, now)
        self.free = max(self.free, min(start + count * step, now + SECOND))
        return [step, 0, 0, 0]

    def _reserve(self, now, asked, count, least, patience, horizon, late, learned, by):
        self._adopt(now, asked, learned if by == self.server else None)
        late = min(max(late, NORMALLY_LATE), MAX_LATE)
        step = -(-self._step(now, self.spacing) * (SECOND + late) // SPACED_SECOND)
        start = self._first(now, self.free, late)
        horizon, granted, retry = min(horizon, MAX_HORIZON), 0, 0
        if start <= now + min(patience, horizon):
            granted = min(count, (now + horizon - start) // step + 1)
            granted = granted if granted >= least else 0
        if granted:
            self.free, self.tail = start + granted * step, late
            self.fixed = max(self.fixed, self.free - step)
        else:
            batch = max(least, min(count, horizon // step // 2), 1)
            wait = start - now
            retry = max(1, wait - patience, wait + (batch - 1) * step - horizon)
            if asked < self.spacing:
                retry = min(retry, max(1, self.learned + CHANGE - now))
        return [step, granted, start, retry]


class World:
    """Real time in microseconds, one Redis with a clock of its own, workers with theirs.

    `engine` runs the script (the model, the real one, or both side by side). Sends are kept as
    (real microseconds, rate in force when the slot was handed out).
    """

    def __init__(self, engine):
        self.engine = engine
        self.now = 0
        self.server, self.previous, self.calls_here = "server0", "server0", 0
        self.offsets = {self.server: 1_795_000_000_000_000}
        self.snapshots = [engine.snapshot()]
        self.workers = [Worker(self) for _ in range(3)]
        self.sent = []

    def script(self, *args):
        reply = self.engine.call(self.now + self.offsets[self.server], self.server, *args)
        self.snapshots.append(self.engine.snapshot())
        self.calls_here += 1
        return reply

    def pass_time(self, micros):
        self.now += micros

    def replace(self, index):
        self.workers[index] = Worker(self)

    def lose_key(self):
        self.engine.drop()

    def move_clock(self, micros):
        self.offsets[self.server] += micros

    def fail_over(self, lost_calls, new, clock_difference):
        """Another server takes over that missed the last calls: a new one, or the one before.

        A server that comes back was a replica of the one it replaces, so what it has is at least
        the first call made there; that it reverts to what itself wrote before does not happen.
        """
        if new or self.previous == self.server:
            self.previous, self.server = self.server, f"server{len(self.offsets)}"
            self.offsets[self.server] = self.offsets[self.previous] + clock_difference
        else:
            self.previous, self.server = self.server, self.previous
            lost_calls = min(lost_calls, max(0, self.calls_here - 1))
        self.calls_here = 0
        self.engine.restore(self.snapshots[max(0, len(self.snapshots) - 1 - lost_calls)])


class Worker:
    """A process: the real limiter on a simulated clock and a connection that takes its time."""

    def __init__(self, world):
        self.world = world
        self.offset_ns = 7_000_000_000 + world.now * 3  # Boot times differ.
        self.delays = (0, 0)
        self.local_ns = None
        self.limiter = RedisRateLimiter(self, clocks={}, monotonic_ns=self.monotonic_ns)
        self.rate = None

    def monotonic_ns(self):
        return self.local_ns

    def at(self, real_micros):
        return real_micros * 1000 + self.offset_ns

    def ago(self, micros=None):
        """So long ago in seconds of this worker's clock; None means that it does not say."""
        return None if micros is None else self.at(self.world.now - micros) / 1e9

    async def execute_command(self, *command):
        reply = self.world.script(*command[4:])  # EVALSHA, digest, 1, key
        self.local_ns = self.at(self.world.now + self.delays[1])
        late = min(max(command[-3], NORMALLY_LATE), MAX_LATE) if command[4] == "reserve" else 0
        if reply[2]:
            self.rate = math.ceil((SECOND + late) / reply[2])
        return reply

    def call(self, method, *args, delays=(100, 100), **kwargs):
        """Call the limiter; the request takes delays[0] and the reply delays[1] microseconds."""
        self.delays = delays
        self.local_ns = self.at(self.world.now - delays[0])
        try:
            getattr(self.limiter, method)("1", *args, **kwargs).send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("the limiter waited for something other than Redis")

    def send(self, method, behind, *args, delays=(100, 100), **kwargs):
        """Take slots, reach each `behind` microseconds late or at the last moment, and send."""
        reservation = self.call(method, *args, delays=delays, **kwargs)
        received = self.local_ns
        for slot in reservation.slots:
            reached = slot.latest if behind == LAST_MOMENT else slot.at + behind / SECOND
            at_ns = max(math.floor(reached * 1e9), received)
            if not slot.expired(at_ns / 1e9):
                real = (at_ns - self.offset_ns) / 1000
                self.world.sent.append((real, self.rate))
        return reservation


def most_in_a_second(times):
    """The most that any window (t, t + 1 s] holds; times in microseconds."""
    times, first, most = sorted(times), 0, 0
    for last, time in enumerate(times):
        while time - times[first] >= SECOND:
            first += 1
        most = max(most, last - first + 1)
    return most


def overfull_seconds(sent):
    """Sends that end a second which holds more than the highest rate that was in force in it."""
    sent, first, wrong = sorted(sent), 0, []
    for last, (time, _) in enumerate(sent):
        while time - sent[first][0] >= SECOND:
            first += 1
        window = sent[first : last + 1]
        if len(window) > max(rate for _, rate in window):
            wrong.append((time, len(window)))
    return wrong


def mixed_seconds(sent):
    """Sends at a lowered rate that share a second with one at the higher rate before."""
    ordered = sorted(sent)
    return [
        (time, rate)
        for (before, higher), (time, rate) in itertools.pairwise(ordered)
        if higher > rate and time - before < SECOND
    ]


WORKER = st.integers(0, 2)
RATE = st.sampled_from([1, 20, 80, 250, 1000])
# Mostly quick and in time, sometimes on the edge of 8 ms, sometimes hopelessly late.
LATENESS = st.sampled_from([0, 0, 1_000, 7_900, 8_100, 30_000, LAST_MOMENT])
TOLERANCE = st.sampled_from([0, 8_000, 8_000, 9_000, 40_000, 250_000, 1_000_000])
DELAYS = st.tuples(*[st.sampled_from([0, 50, 300, 3_000, 40_000])] * 2)
STEP_OF_CLOCK = st.integers(300_000, 5_000_000).flatmap(lambda step: st.sampled_from([step, -step]))

AGE = st.sampled_from([None, None, 0, 100_000, 400_000])  # Of what a caller knows of its rate.
RESERVE = st.tuples(
    st.just("reserve"), WORKER, st.integers(1, 300), LATENESS, DELAYS, TOLERANCE, AGE
)
CONSUME = st.tuples(st.just("consume"), WORKER, st.integers(1, 2), LATENESS, DELAYS)
WAIT = st.tuples(st.just("wait"), st.one_of(st.integers(0, 60_000), st.integers(0, 1_500_000)))
BUSY = st.tuples(
    st.just("busy"),
    st.sampled_from([50_000, 300_000, 700_000, 1_200_000]),
    st.sampled_from([1, 3, 20, 100]),
    st.lists(LATENESS, min_size=1, max_size=4),
    st.lists(DELAYS, min_size=1, max_size=4),
    st.lists(TOLERANCE, min_size=1, max_size=5),
    AGE,
)
LOOK = st.tuples(st.just("look"), WORKER)
HOLD = st.tuples(st.just("hold"), WORKER, st.integers(0, 2_000))
DEBIT = st.tuples(st.just("debit"), WORKER, st.integers(1, 100))
SLOW = st.tuples(st.just("slow"), WORKER, st.floats(0.1, 1.0), st.integers(1, 3))
RAISE_OR_LOWER = st.tuples(st.just("rate"), WORKER, RATE)
NEW_WORKER = st.tuples(st.just("new"), WORKER)
LOSE_KEY = st.tuples(st.just("lose"))
MOVE_CLOCK = st.tuples(st.just("clock"), STEP_OF_CLOCK)
FAIL_OVER = st.tuples(
    st.just("fail over"),
    st.integers(0, 20),
    st.booleans(),
    st.sampled_from([0, 0, 5_000_000, -5_000_000, -3_600_000_000]),
)

CALLS = (RESERVE, CONSUME, WAIT, LOOK, HOLD, DEBIT)
ACCIDENTS = (NEW_WORKER, LOSE_KEY, MOVE_CLOCK, FAIL_OVER)


def days(*happenings):
    """Lists of events in which demand never rests for long, whatever happens in between."""
    few = st.lists(st.one_of(*happenings), max_size=3)
    rounds = st.lists(st.tuples(few, BUSY), min_size=2, max_size=6)
    return rounds.map(lambda day: [event for few, busy in day for event in (*few, busy)])


def play(world, rate, events):
    """Let `events` happen; each worker believes in a rate of its own until told otherwise."""
    rates = [rate] * len(world.workers)
    # What came before is unknown to this world: begin where a second has passed.
    for worker, believed in zip(world.workers, rates, strict=True):
        worker.call("reserve", count=1, rate=believed)
    world.pass_time(2 * SECOND)
    for kind, *details in events:
        happen(world, rates, kind, *details)


def happen(world, rates, kind, *details):
    """One event; a call to a worker is made at the rate that this worker believes in."""
    if kind == "wait":
        world.pass_time(*details)
    elif kind == "busy":
        be_busy(world, rates, *details)
    elif kind == "lose":
        world.lose_key()
    elif kind == "clock":
        world.move_clock(*details)
    elif kind == "fail over":
        world.fail_over(*details)
    else:
        call(world, rates, kind, *details)


def be_busy(world, rates, micros, count, latenesses, delays, tolerances, age):
    """All workers take what they can get, again and again, some quick, some late."""
    end, turn = world.now + micros, 0
    while world.now < end:
        for worker, rate in zip(world.workers, rates, strict=True):
            late, delay = latenesses[turn % len(latenesses)], delays[turn % len(delays)]
            tolerated = timedelta(microseconds=tolerances[turn % len(tolerances)])
            given = {"count": count, "rate": rate, "lateness": tolerated}
            worker.send("reserve", late, **given, delays=delay, learned_at=worker.ago(age))
            turn += 1
        world.pass_time(min(SPACED_SECOND // max(rates) * count, 40_000))


def call(world, rates, kind, index, *details):
    """One thing that the worker `index` does."""
    worker, rate = world.workers[index], rates[index]
    if kind == "reserve":
        count, late, delays, micros, *age = details
        given = {"count": count, "rate": rate, "lateness": timedelta(microseconds=micros)}
        worker.send("reserve", late, **given, delays=delays, learned_at=worker.ago(*age))
    elif kind == "consume":
        tokens, lateness, delays = details
        tokens = tokens if rate >= 20 else 1
        worker.send("consume_token", lateness, tokens, rate=rate, delays=delays)
    elif kind == "look":
        worker.call("check_rate_limit", rate=rate)
    elif kind == "hold":
        worker.call("hold", timedelta(milliseconds=details[0]))
    elif kind == "debit":
        worker.call("debit", details[0], rate=rate)
    elif kind == "slow":
        worker.call("slow_down", factor=details[0], duration=timedelta(seconds=details[1]))
    elif kind == "rate":
        rates[index] = details[0]
    elif kind == "new":
        world.replace(index)
