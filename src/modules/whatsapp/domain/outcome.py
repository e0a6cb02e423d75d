"""What became of one attempt to send a message: a closed union, to be matched exhaustively.

`Deferred` is a class of its own and not a flag of `Rejected`: whoever forgets a flag fails a
message that Meta would take a minute later, whoever forgets a class is told so by the type checker.
It differs from `Throttled` in that nobody but the message itself has to wait.

    Accepted     Meta took it and gave it a wamid           -> sent, follow its statuses
    Throttled    too much of something, Meta did not take it -> hold back the scope, send again
    Deferred     trouble at Meta, Meta did not take it       -> send again later
    Rejected     Meta will not take it                       -> do what `action` says
    Unreachable  nothing left this machine                   -> safe to send again
    Unknown      it may have been sent                       -> wait for an echo; never just repeat
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import TypeAlias, assert_never

from whatsapp.domain.retry import RetryPolicy, retry_delay

MAX_TITLE_CHARACTERS = 200
MAX_DETAILS_CHARACTERS = 1000

# Seven digits and more, also when they are written in groups: "+00 (1) 234-567".
_NUMBER = re.compile(r"\+?\d(?:[ ().\-/\u00a0]{0,2}\d){6,}")
_USER_ID = re.compile(r"\b[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}\b")
_TOKEN = re.compile(r"[A-Za-z0-9_\-+/=|]{32,}")
_REMOVED = "[removed]"

UNREACHABLE_RETRY = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=5), retries=None)
"""Nothing reached Meta, so nothing speaks against the message; its own expiry ends the waiting."""


class ThrottleScope(StrEnum):
    """What has to slow down."""

    NUMBER = "number"
    PAIR = "pair"
    """This number to this recipient; everyone else goes on."""
    ACCOUNT = "account"
    """Every number of the WhatsApp Business account."""
    APP = "app"
    """Everything that is sent with the app's tokens."""
    MESSAGE = "message"
    """A limit of the template, the flow or the call at hand: other messages go on."""


class RejectAction(StrEnum):
    """What a refusal means beyond this attempt."""

    FAIL = "fail"
    """The message fails; nothing else is concerned."""
    FAIL_RECIPIENT = "fail_recipient"
    """The message fails, and so would others of its kind to this recipient."""
    FAIL_TEMPLATE = "fail_template"
    """The message fails, and so would all that use its template or flow until it is mended."""
    PAUSE_CHANNEL = "pause_channel"
    """The channel is in trouble, not the message: keep both, stop sending, call the operator."""


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why Meta refused, fit to be stored and shown: phone numbers, ids and tokens are cut out.

    Meta quotes numbers in `details` and tokens in `message`. Runs of seven digits and more, user
    ids and opaque words of 32 characters and more become `[removed]`; rather too much than a leak.
    """

    code: int | None
    title: str
    details: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", scrub(self.title)[:MAX_TITLE_CHARACTERS])
        object.__setattr__(self, "details", scrub(self.details)[:MAX_DETAILS_CHARACTERS])


def scrub(text: str) -> str:
    """The text without what may identify a person or open a door."""
    # Cut first, so that the patterns run on a bounded text; what a cut leaves of a number at the
    # very end is cut again by the shorter limits of the fields.
    text = text[: 2 * MAX_DETAILS_CHARACTERS].replace("\x00", "")
    return _NUMBER.sub(_REMOVED, _USER_ID.sub(_REMOVED, _TOKEN.sub(_REMOVED, text)))


@dataclass(frozen=True, slots=True)
class _Failed:
    failure: FailureReason

    @property
    def code(self) -> int | None:
        """Meta's code, if it gave one."""
        return self.failure.code

    @property
    def title(self) -> str:
        """The short name of the failure."""
        return self.failure.title

    @property
    def details(self) -> str:
        """What Meta said about this very case; may be empty."""
        return self.failure.details


@dataclass(frozen=True, slots=True)
class Accepted:
    """Meta took the message for processing; it is neither sent nor delivered yet.

    `wa_id` and `user_id` are the recipient in Meta's own spelling, which may differ from what was
    sent; one of them may be missing. `held` means that Meta holds a template back to look at its
    quality first: it may take an hour, and end in a failure.
    """

    wamid: str
    wa_id: str | None = field(default=None, repr=False)
    user_id: str | None = field(default=None, repr=False)
    held: bool = False


@dataclass(frozen=True, slots=True)
class Throttled(_Failed):
    """Not taken because of a limit; hold back `scope` and send again by `retry`.

    `retry_after` is the wait that Meta itself asked for, if it did.
    """

    scope: ThrottleScope
    retry: RetryPolicy
    retry_after: timedelta | None = None

    @property
    def hold(self) -> timedelta:
        """How long the whole scope has to rest at least; zero where slowing down is enough."""
        return max(self.retry.floor, self.retry_after or timedelta())


@dataclass(frozen=True, slots=True)
class Deferred(_Failed):
    """Not taken because of trouble at Meta that passes; send again by `retry`."""

    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Rejected(_Failed):
    """Not taken, and the same request will not be; `action` says who else is concerned.

    `retry_after` is how long a person has to wait before trying again makes sense or is allowed.
    """

    action: RejectAction
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Not one byte of the request left this machine: repeating it cannot double the message."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request left and no answer says what became of it: repeating it may double it."""

    reason: str


Refusal: TypeAlias = Throttled | Deferred | Rejected
"""What Meta can say instead of taking a message, at once or later in a `failed` status."""

Outcome: TypeAlias = Accepted | Refusal | Unreachable | Unknown


def wait_before_retry(outcome: Outcome, *, attempt: int, rng: Random) -> timedelta | None:
    """How long to wait before the next automatic attempt; None where there must not be one.

    `attempt` is how many attempts have had this outcome, this one among them.
    """
    match outcome:
        case Throttled():
            return retry_delay(
                outcome.retry, attempt=attempt, rng=rng, at_least=outcome.retry_after
            )
        case Deferred():
            return retry_delay(outcome.retry, attempt=attempt, rng=rng)
        case Unreachable():
            return retry_delay(UNREACHABLE_RETRY, attempt=attempt, rng=rng)
        case Accepted() | Rejected() | Unknown():
            return None
        case _:
            assert_never(outcome)
