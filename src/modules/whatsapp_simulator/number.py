"""A business phone number, the account it belongs to, and what has happened to it."""

from collections import Counter
from typing import Any

from shared.kernel.secret import Secret
from whatsapp_simulator.clock import SECOND_NS
from whatsapp_simulator.limits import PairLimit, SlidingSecond
from whatsapp_simulator.recent import RecentMap

_REMEMBERED_CALLBACKS = 500_000
_REMEMBERED_IDS = 200_000
_REMEMBERED_WINDOWS = 200_000
WINDOW_NS = 24 * 3600 * SECOND_NS
_EXAMPLES = 100
_STATES_THAT_REFUSE = {
    "BANNED": 131031,
    "DELETED": 33,
    "DISCONNECTED": 133010,
    "MIGRATED": 133010,
    "PENDING": 133010,
    "RESTRICTED": 368,
    "RATE_LIMITED": 131048,
    "UNVERIFIED": 133010,
}


class Account:
    """A WABA: whether the app is subscribed to it, and where its webhooks go instead."""

    def __init__(self, waba_id: str) -> None:
        self.waba_id = waba_id
        self.subscribed = True
        self.override_url: str | None = None


class Doubles:
    """Counts values that were accepted more than once; remembers hashes, not texts.

    Sees a repetition within at least the last 500 000 different values.
    """

    def __init__(self) -> None:
        self._seen: RecentMap[int, bool] = RecentMap(_REMEMBERED_CALLBACKS)
        self.distinct = 0
        self.doubled = 0
        self.examples: list[str] = []

    def add(self, value: str) -> None:
        """Count one accepted value."""
        key = hash(value)
        if key not in self._seen:
            self._seen.put(key, True)
            self.distinct += 1
            return
        self.doubled += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(value)


class Number:
    """State and counters of one phone number; everything here lives on one event loop."""

    def __init__(
        self,
        phone_number_id: str,
        *,
        display_phone_number: str,
        account: Account,
        access_token: Secret | None,
        messages_per_second: int,
        verified_name: str,
    ) -> None:
        self.phone_number_id = phone_number_id
        self.display_phone_number = display_phone_number
        self.display_digits = "".join(filter(str.isdecimal, display_phone_number))
        self.account = account
        self.access_token = access_token
        self.messages_per_second = messages_per_second
        self.verified_name = verified_name
        self.override_url: str | None = None
        self.registered = True
        self.verified = True
        self.pin: str | None = None
        self.status = "CONNECTED"
        self.quality = "GREEN"
        self.registrations_ns: list[int] = []
        self.clear()

    def clear(self) -> None:
        """Forget everything that happened; what the number is stays."""
        self.accepted_window = SlidingSecond()
        self.offered_window = SlidingSecond()
        self.pairs = PairLimit()
        self.offered = 0
        self.accepted = 0
        self.rejected: Counter[int] = Counter()
        self.broken: Counter[str] = Counter()
        self.callbacks = Doubles()
        self.messages = Doubles()
        self.statuses_planned = 0
        self.statuses_acked = 0
        self.statuses_lost = 0
        self.inbound_planned = 0
        self.inbound_acked = 0
        self.inbound_ids: RecentMap[str, bool] = RecentMap(_REMEMBERED_IDS)
        self.outbound_ids: RecentMap[str, bool] = RecentMap(_REMEMBERED_IDS)
        self._last_inbound_ns: RecentMap[str, int] = RecentMap(_REMEMBERED_WINDOWS)

    def opens_with(self, token: str) -> bool:
        """Whether this token may use the number."""
        return self.access_token is None or self.access_token == Secret(token)

    def heard_from(self, *user: str, now_ns: int) -> None:
        """Open the 24-hour window of a user, known by one or more ids."""
        for user_id in user:
            self._last_inbound_ns.put(user_id, now_ns)

    def window_is_open(self, user: str, now_ns: int) -> bool:
        """Whether the user wrote within the last 24 hours."""
        heard = self._last_inbound_ns.get(user)
        return heard is not None and now_ns - heard < WINDOW_NS

    def obstacle(self) -> int | None:
        """The code with which every send is refused in the number's present state, if any."""
        if not self.registered:
            return 133010
        return _STATES_THAT_REFUSE.get(self.status)

    def accept(self, wamid: str, callback: str | None) -> None:
        """Count an accepted message; a sender's attempt number follows the last dot."""
        self.accepted += 1
        self.outbound_ids.put(wamid, True)
        if callback:
            self.callbacks.add(callback)
            self.messages.add(callback.rpartition(".")[0] or callback)

    def report(self, now_ns: int) -> dict[str, Any]:
        """Counters of the number as the control API shows them."""
        return {
            "phone_number_id": self.phone_number_id,
            "messages_per_second": self.messages_per_second,
            "offered": self.offered,
            "max_offered_in_any_second": self.offered_window.peak,
            "accepted": self.accepted,
            "max_accepted_in_any_second": self.accepted_window.peak,
            "accepted_in_last_second": self.accepted_window.count(now_ns),
            "rejected": {str(code): n for code, n in sorted(self.rejected.items())},
            "broken": dict(self.broken),
            "distinct_callback_data": self.callbacks.distinct,
            "doubled": self.callbacks.doubled,
            "doubled_examples": self.callbacks.examples,
            "distinct_messages": self.messages.distinct,
            "doubled_messages": self.messages.doubled,
            "statuses": {
                "planned": self.statuses_planned,
                "acked": self.statuses_acked,
                "lost": self.statuses_lost,
                "pending": self.statuses_planned - self.statuses_acked - self.statuses_lost,
            },
            "inbound": {"planned": self.inbound_planned, "acked": self.inbound_acked},
        }
