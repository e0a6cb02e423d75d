"""The guide lists every label and every value of it that the code can show, and no other."""

import re
from collections import defaultdict
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

from prometheus_client import CollectorRegistry

from shared.infrastructure.http.request_context import UNMATCHED
from shared.infrastructure.observability.metrics import HttpMetrics
from shared.kernel.clock import utc_now
from shared.kernel.ids import new_id
from tellwire.worker_metrics import WorkerMetrics
from whatsapp.application.applied import Applied
from whatsapp.application.attempt import kind_of
from whatsapp.application.process_webhooks import ProcessWebhooks, _Found
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob, MediaJobKind
from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.outcome import FailureReason, Outcome, Refusal
from whatsapp.domain.repositories import AttemptResult
from whatsapp.domain.value_objects import MessageStatus
from whatsapp.domain.value_objects.message_content import MessageType
from whatsapp.domain.webhook import TroubleReported, Unrecognised
from whatsapp.entrypoints.http.metrics import ApiMetrics
from whatsapp.infrastructure.cloud_api.code_table import CODES, FAMILIES, UNKNOWN_CODE, rule_for
from whatsapp.infrastructure.persistence.repositories.backlog import SQLAlchemyBacklog, Waiting

GUIDE = Path(__file__).parents[2] / "docs/operations.md"
ROW = re.compile(r"^\|(.*?)\| `(\w+)` \| (.*) \|$", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
FREE = {("route", "/v1/messages/{message_id}"), ("status", "200")}
"""Examples of what is not a closed set: whatever route is declared, whatever number."""


def documented():
    """`{(metric, label): values}` as the guide's table has it."""
    table = GUIDE.read_text("utf-8").partition("Every label of these")[2].partition("\n\nWhat")[0]
    found, metrics = {}, []
    for named, label, values in ROW.findall(table):
        metrics = QUOTED.findall(named) or metrics
        for metric in metrics:
            known = {one for one in QUOTED.findall(values) if (label, one) not in FREE}
            found[metric, label] = known
    return found


def shown(registry):
    """The same as a scrape would show it."""
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            name = re.sub("_(created|bucket|count|sum)$", "", sample.name)
            for label, value in sample.labels.items():
                # A counter's time of creation is there besides its number.
                is_extra = label == "le" or sample.name.endswith("_created")
                if not is_extra and (label, value) not in FREE:
                    found.setdefault((name, label), set()).add(value)
    return found


def http_metrics(registry) -> None:
    metrics = HttpMetrics(registry)
    methods = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "get")
    for method in methods:
        for status in (200, None):
            metrics.observe(method=method, route=UNMATCHED, status=status, seconds=1)
    metrics.observer(method="POST", route="/v1/messages/{message_id}", status=200)(1)


def api_metrics(registry) -> None:
    metrics = ApiMetrics(registry)
    for kind in MessageType:
        for is_replayed in (False, True):
            content = SimpleNamespace(type=kind)
            metrics.message_accepted(SimpleNamespace(replayed=is_replayed, content=content))
    for kind in MediaKind:
        for is_new in (False, True):
            metrics.media_uploaded(SimpleNamespace(kind=kind, size=1), is_new=is_new)
    metrics.webhook_stored(1)
    metrics.webhook_refused()


def outcomes():
    """One of each class of outcome, whatever is in it."""
    kinds = [one for kind in get_args(Outcome) for one in get_args(kind) or (kind,)]
    assert set(get_args(Refusal)) < set(kinds)
    return [kind_of(object.__new__(kind)) for kind in kinds]


def sent(outcome, code, number=1):
    return AttemptResult(
        message_id=new_id(),
        lease_token=new_id(),
        number=number,
        status=MessageStatus.SENT,
        outcome=outcome,
        started_at=utc_now(),
        finished_at=utc_now(),
        failure=None if code is None else FailureReason(code, "", ""),
    )


class Nothing(SQLAlchemyBacklog):
    """A backlog of which nobody has to be asked: there is none."""

    async def count_inbox(self):
        return Waiting(0, timedelta())


async def worker_metrics(registry, monkeypatch) -> None:
    metrics = WorkerMetrics(registry)
    unknown = max(CODES) + 1
    assert rule_for(unknown) is UNKNOWN_CODE
    codes = [None, unknown, *CODES, *(code for some, _ in FAMILIES for code in some)]
    for outcome in outcomes():
        for code in codes:
            metrics.observe(sent(outcome, code), True)
    metrics.observe(sent("not_sent", None, number=0), False)
    for kind in MediaJobKind:
        for failure in (None, *MediaFailure):
            job = MediaJob(new_id(), new_id(), kind, new_id(), new_id(), 1, new_id())
            metrics.moved(job, failure)
    metrics.ended(SimpleNamespace(forfeited=1, counted=0))

    async def no_rows(*_asked):
        return ()

    monkeypatch.setattr("whatsapp.infrastructure.persistence.repositories.backlog._rows", no_rows)
    await metrics.sample(Nothing(dispatch=None, process=None))
    await elements(metrics.element)


async def elements(count) -> None:
    """All that processing counts: of what was applied, and of what nobody could be given."""

    class Inbox:
        async def finish(self, *_given, **_more):
            return None

    process = ProcessWebhooks(
        inbox=Inbox(),
        parse=None,
        apply=None,
        count_inbound=None,
        heed_reports=None,
        count_elements=count,
    )
    one_each = {one.name: (object(),) for one in fields(Applied)}
    unread = tuple(object.__new__(kind) for kind in (Unrecognised, TroubleReported))
    process._count(SimpleNamespace(**one_each | {"unread": unread}))
    await process._finish([], _Found(defaultdict(list), [object()], []), ())


async def test_the_guide_lists_every_label_with_all_its_values(monkeypatch) -> None:
    registry = CollectorRegistry()
    http_metrics(registry)
    api_metrics(registry)
    await worker_metrics(registry, monkeypatch)

    assert documented() == shown(registry)
