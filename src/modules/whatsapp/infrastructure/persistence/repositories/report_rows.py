"""Reports as the arrays that their statements take, and what those statements say of them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.infrastructure.database.arguments import all_given
from shared.infrastructure.database.driver_errors import InvalidValue
from shared.kernel.ids import new_ids
from whatsapp.domain.repositories import (
    LateFailure,
    RecordedReport,
    StatusesRecorded,
    StatusReport,
)
from whatsapp.infrastructure.persistence.repositories.message_rows import (
    failures_of,
    json_of,
    late_failure,
    without_blanks,
)
from whatsapp.infrastructure.persistence.repositories.storable import (
    storable_attempt,
    storable_texts,
)

Arrays = Mapping[str, Sequence[Any]]


def report_arrays(reports: Sequence[StatusReport]) -> dict[str, Any]:
    """What recording reports needs: each column's values as one array.

    Where one of them tells which message a wamid is of, the others need not.
    """
    all_given(StatusReport, reports, "reports")
    named = {report.wamid: report.message_id for report in reports if report.message_id}
    columns: Arrays = {
        "event_ids": new_ids(len(reports)),
        "message_ids": [report.message_id or named.get(report.wamid) for report in reports],
        "wamids": storable_texts([report.wamid for report in reports]),
        "statuses": [report.status for report in reports],
        "attempts": [storable_attempt(report.attempt) for report in reports],
        "seconds": _seconds_of([report.occurred_at for report in reports]),
        "errors": [json_of(report.errors) for report in reports],
        "pricing": [json_of(report.pricing) for report in reports],
    }
    return without_blanks({**columns, **failures_of([report.failure for report in reports])})


def _seconds_of(times: Sequence[datetime]) -> Sequence[float]:
    """Since 1970, exact to the microsecond: the driver takes four times as long for a time."""
    if None in {at.tzinfo for at in all_given(datetime, times, "occurred_at")}:
        raise InvalidValue("A time needs its time zone", field="occurred_at")
    return [at.timestamp() for at in times]


def recorded_of(reports: Arrays, rows: Iterable[Any], *, doubled: int) -> StatusesRecorded:
    """What became of the reports that `report_arrays` made arrays of.

    PostgreSQL tells of those that did not go as each says for itself, counted from 1.
    """
    failed, others = list[LateFailure](), dict[int, RecordedReport | None]()
    for number, is_new, message_id, moved, overtaken, attempt, _, _, failed_at, errors in rows:
        if number is None:
            failed.append(late_failure(message_id, attempt, failed_at, errors))
        else:
            told = RecordedReport(number - 1, message_id, moved, overtaken, attempt)
            others[number - 1] = told if is_new else None
    nothing = [None] * len(reports["event_ids"])  # What a column without any value stands for.
    columns = zip(reports["message_ids"] or nothing, reports["attempts"] or nothing, strict=True)
    expected = [
        RecordedReport(position, message_id, True, False, attempt)
        for position, (message_id, attempt) in enumerate(columns)
    ]
    new = [others.get(report.position, report) for report in expected] if others else expected
    return StatusesRecorded([report for report in new if report], doubled, failed)


def settled_by(rows: Iterable[Any]) -> Sequence[UUID]:
    """The messages that reports have moved while their entry still waited."""
    return list({row.message_id for row in rows if row.settles})


def doubles_among(reports: Arrays, rows: Iterable[Any]) -> dict[str, Sequence[Any]]:
    """The reports about second copies, each column's values as one array; empty for none."""
    doubles = [row for row in rows if row.doubles]
    if not doubles:
        return {}
    names = ("event_ids", "wamids", "statuses", "attempts", "seconds")
    columns: dict[str, Sequence[Any]] = {
        name: [reports[name][row.number - 1] for row in doubles] for name in names
    }
    return columns | {"message_ids": [row.message_id for row in doubles]}
