"""What a code of Meta's can mean, and how long each kind of trouble is waited out."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, Flag, auto

from whatsapp.domain.outcome import RejectAction, ThrottleScope
from whatsapp.domain.retry import Jitter, RetryPolicy


class CodeClass(Enum):
    """The four answers to "what now?"."""

    THROTTLE = "throttle"
    """Too much: slow down and send again."""
    TRANSIENT = "transient"
    """Trouble at Meta: send again later."""
    PERMANENT = "permanent"
    """This message will never be taken."""
    CHANNEL = "channel"
    """Credentials, billing, registration: pause the channel, keep its messages."""


class Seen(Flag):
    """Where a code turns up; a guide from documents and fixtures, not a promise of Meta's."""

    SYNC = auto()
    """In the HTTP answer."""
    ASYNC = auto()
    """In a `failed` status."""
    INBOUND = auto()
    """In a message that a customer wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRule:
    """What one code means and what to do about it.

    `scope` belongs to a throttle, `retry` to a throttle and a transient, `action` to the other two;
    `wait` is how long a person should wait before trying again.
    """

    kind: CodeClass
    seen: Seen
    title: str
    advice: str
    scope: ThrottleScope | None = None
    retry: RetryPolicy | None = None
    action: RejectAction | None = None
    wait: timedelta | None = None

    def __post_init__(self) -> None:
        again = self.kind in {CodeClass.THROTTLE, CodeClass.TRANSIENT}
        if again is (self.retry is None) or again is (self.action is not None):
            raise ValueError("a rule either retries or acts")
        if (self.kind is CodeClass.THROTTLE) is (self.scope is None):
            raise ValueError("a throttle, and nothing else, has a scope")


NUMBER_RETRY = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=5), retries=100)
"""Throttles of the number: the whole number slows down, so few messages wait this often."""
QUOTA_RETRY = RetryPolicy(base=timedelta(minutes=2), cap=timedelta(hours=1), retries=48)
# Meta: wait 4^X seconds, X = 0, 1, 2 ...; 4^5 s is past the two minutes that a full burst costs.
PAIR_RETRY = RetryPolicy(
    base=timedelta(seconds=1),
    cap=timedelta(seconds=4**5),
    retries=12,
    factor=4,
    jitter=Jitter.ADDED,
)
HOURS_RETRY = RetryPolicy(
    base=timedelta(hours=1), cap=timedelta(hours=6), retries=8, floor=timedelta(hours=1)
)
REGISTRATION_RETRY = RetryPolicy(
    base=timedelta(hours=1), cap=timedelta(hours=6), retries=2, floor=timedelta(hours=72)
)
OUTAGE_RETRY = RetryPolicy(base=timedelta(seconds=2), cap=timedelta(minutes=10), retries=24)
FEW_RETRIES = RetryPolicy(base=timedelta(seconds=5), cap=timedelta(minutes=2), retries=3)
MINUTE_RETRY = RetryPolicy(
    base=timedelta(seconds=15),
    cap=timedelta(minutes=5),
    retries=12,
    floor=timedelta(minutes=1),
)
SYNC_RETRY = RetryPolicy(
    base=timedelta(minutes=2), cap=timedelta(minutes=10), retries=6, floor=timedelta(minutes=1)
)


def throttle(
    title: str, advice: str, *, scope: ThrottleScope, retry: RetryPolicy, seen: Seen = Seen.SYNC
) -> CodeRule:
    """Too much: `scope` slows down, the message goes again by `retry`."""
    return CodeRule(
        kind=CodeClass.THROTTLE, seen=seen, title=title, advice=advice, scope=scope, retry=retry
    )


def transient(
    title: str, advice: str, *, retry: RetryPolicy = OUTAGE_RETRY, seen: Seen = Seen.SYNC
) -> CodeRule:
    """Trouble that passes: the message goes again by `retry`."""
    return CodeRule(kind=CodeClass.TRANSIENT, seen=seen, title=title, advice=advice, retry=retry)


def permanent(
    title: str,
    advice: str,
    *,
    seen: Seen = Seen.SYNC,
    action: RejectAction = RejectAction.FAIL,
    wait: timedelta | None = None,
) -> CodeRule:
    """This message fails."""
    return CodeRule(
        kind=CodeClass.PERMANENT, seen=seen, title=title, advice=advice, action=action, wait=wait
    )


def channel(
    title: str, advice: str, *, seen: Seen = Seen.SYNC, wait: timedelta | None = None
) -> CodeRule:
    """The channel pauses, its messages stay."""
    return CodeRule(
        kind=CodeClass.CHANNEL,
        seen=seen,
        title=title,
        advice=advice,
        action=RejectAction.PAUSE_CHANNEL,
        wait=wait,
    )
