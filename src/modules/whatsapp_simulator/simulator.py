"""The simulated platform: accounts, numbers and what ties the parts together."""

from random import Random
from typing import Any

from aiohttp import web

from whatsapp_simulator.clock import MILLISECOND_NS, SECOND_NS, SimulatorClock
from whatsapp_simulator.config import SimulatedNumber, SimulatorConfig
from whatsapp_simulator.faults import Faults
from whatsapp_simulator.graph_errors import GraphError, unknown_object
from whatsapp_simulator.identity import Names
from whatsapp_simulator.media import MediaFaults, MediaStore
from whatsapp_simulator.number import Account, Number
from whatsapp_simulator.request_log import RequestLog
from whatsapp_simulator.statuses import Delays, StatusBoard
from whatsapp_simulator.templates import TemplateBook
from whatsapp_simulator.webhooks import WebhookSender

_OPEN_WABA = "100000000000099"


class Simulator:
    """All state of one simulator; used from one event loop."""

    def __init__(self, config: SimulatorConfig, clock: SimulatorClock) -> None:
        self.config = config
        self.clock = clock
        self.rng = Random(config.seed)  # noqa: S311  # jitter and dice, nothing to guess
        self.names = Names()
        self.log = RequestLog(config.log_entries, config.log_path)
        self.faults = Faults(self.rng)
        self.templates = TemplateBook(self.names)
        self.media = MediaStore(self.names, clock)
        self.delays = Delays.of(config.statuses)
        self.sender = WebhookSender(
            config.webhooks,
            secret=config.app_secret,
            default_url=config.webhook_url,
            clock=clock,
            rng=self.rng,
        )
        self._tick_ns = int(config.webhooks.linger.total_seconds() * SECOND_NS)
        self._ticked_ns = 0
        self.longest_stall_ns = 0
        self.board = StatusBoard(
            tick_ns=self._tick_ns,
            clock=clock,
            sender=self.sender,
            settings=config.webhooks,
        )
        self.accounts: dict[str, Account] = {}
        self.numbers: dict[str, Number] = {}
        for number in config.numbers:
            self.add_number(number)

    def account(self, waba_id: str) -> Account:
        """The account of this id, made if need be."""
        return self.accounts.setdefault(waba_id, Account(waba_id))

    def add_number(self, given: SimulatedNumber) -> Number:
        """Add a number, or replace one of the same id."""
        return self._keep(
            Number(
                given.phone_number_id,
                display_phone_number=given.display_phone_number,
                account=self.account(given.waba_id),
                access_token=given.access_token,
                messages_per_second=given.messages_per_second,
                verified_name=given.verified_name,
            )
        )

    def _keep(self, number: Number) -> Number:
        self.numbers[number.phone_number_id] = number
        return number

    def number_or_open(self, phone_number_id: str) -> Number | None:
        """The number of this id; in open mode any numeric id is one, made on first use."""
        number = self.numbers.get(phone_number_id)
        if number is not None or not self.config.open_numbers or not phone_number_id.isdecimal():
            return number
        return self._keep(
            Number(
                phone_number_id,
                display_phone_number=f"+1 555 {phone_number_id[-7:].zfill(7)}",
                account=self.account(_OPEN_WABA),
                access_token=None,
                messages_per_second=self.config.open_messages_per_second,
                verified_name="Simulated business",
            )
        )

    def token_is_known(self, token: str) -> bool:
        """Whether this token opens anything at all."""
        if self.config.open_numbers:
            return True
        return any(number.opens_with(token) for number in self.numbers.values())

    def authorised_number(self, request: web.Request, phone_number_id: str) -> Number:
        """The number if the request's token may use it; raises Meta's refusals otherwise."""
        token = bearer_of(request)
        number = self.number_or_open(phone_number_id)
        if number is not None and number.opens_with(token):
            return number
        self.require_known(token)
        raise unknown_object(phone_number_id, request.method)

    def open_account(self, waba_id: str) -> Account | None:
        """The account of this id; in open mode any numeric id is one."""
        if self.config.open_numbers and waba_id.isdecimal():
            return self.account(waba_id)
        return self.accounts.get(waba_id)

    def authorised_account(self, request: web.Request, waba_id: str) -> Account | None:
        """The account if the token opens one of its numbers; None if there is no such account."""
        token = bearer_of(request)
        self.require_known(token)
        account = self.accounts.get(waba_id)
        if account is None:
            return None
        mine = (n for n in self.numbers.values() if n.account is account)
        if self.config.open_numbers or any(n.opens_with(token) for n in mine):
            return account
        raise unknown_object(waba_id, request.method)

    def require_known(self, token: str) -> None:
        """Raise 190 for a token that opens nothing."""
        if not self.token_is_known(token):
            raise GraphError(190, title="Invalid OAuth access token - Cannot parse access token")

    def tick(self) -> None:
        """Do what is due: statuses, webhooks, the log's file.

        Also notes how late it is itself: requests that arrive while the process stands still are
        seen too close together, and an exact limit then refuses what the sender spaced well.
        """
        now_ns = self.clock.monotonic_ns()
        if self._ticked_ns:
            stall_ns = now_ns - self._ticked_ns - self._tick_ns
            self.longest_stall_ns = max(self.longest_stall_ns, stall_ns)
        self._ticked_ns = now_ns
        self.board.release(now_ns)
        self.sender.flush(now_ns)
        self.log.flush()

    def reset(self) -> None:
        """Forget what happened and all faults; numbers and their rates stay."""
        self.board.clear()
        self.sender.clear()
        self.faults.active.clear()
        self.media.faults = MediaFaults()
        self.log.clear()
        for number in self.numbers.values():
            number.clear()
        self.longest_stall_ns = 0

    def report(self, phone_number_id: str | None = None) -> dict[str, Any]:
        """What the control API reports: totals and each number, or one number alone.

        Of a thousand numbers it takes as long as some messages: whoever asks often names one.
        """
        now_ns = self.clock.monotonic_ns()
        numbers = [
            number.report(now_ns)
            for number in self.numbers.values()
            if phone_number_id in (None, number.phone_number_id)
        ]
        totals = ("offered", "accepted", "doubled", "doubled_messages")
        return {
            "now_ns": now_ns,
            "longest_stall_ms": round(self.longest_stall_ns / MILLISECOND_NS, 1),
            "stall_precision_ms": round(self._tick_ns / MILLISECOND_NS, 1),
            "log_last": self.log.last,
            "log_write_failures": self.log.write_failures,
            **{key: sum(number[key] for number in numbers) for key in totals},
            "webhooks": self.sender.report(),
            "numbers": numbers,
        }


SIMULATOR: web.AppKey[Simulator] = web.AppKey("simulator", Simulator)


def bearer_of(request: web.Request) -> str:
    """The access token of a request, from the header or, as Graph allows, the query."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        token = request.query.get("access_token", "")
    if not token.strip():
        raise GraphError(190, title="An access token is required to request this resource.")
    return token.strip()
