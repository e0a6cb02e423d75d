"""Messages with a tenant's own files: each file goes to Meta once per channel, before them.

Accepting such a message asks for the upload, which a media worker does. When the message's turn
comes, Meta's id of the file stands ready, or the message rests for a moment and keeps its place.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.kernel.errors import TellwireError
from whatsapp.application.ports import Work
from whatsapp.domain.entities import OutboundMessage
from whatsapp.domain.media import Media, MediaNotFound, Upload
from whatsapp.domain.outcome import Deferred, Outcome, Rejected
from whatsapp.domain.retry import RetryPolicy

REST: Final = timedelta(seconds=1)
"""How long a message waits before it is looked at again, while a file of it is on its way."""
_PARAMETER: Final = 100
_LOST: Final = frozenset({_PARAMETER, 131053})
"""Meta's codes for an id of an upload that it does not know any more, or cannot read."""
_ONCE_MORE: Final = RetryPolicy(base=timedelta(seconds=2), cap=timedelta(seconds=2), retries=None)


@dataclass(frozen=True, slots=True)
class Uploads:
    """Which messages cannot go now because a file is on its way, and which never, with why."""

    waiting: frozenset[UUID]
    lost: Mapping[UUID, str]


async def check_uploads(
    work: Work, messages: Sequence[OutboundMessage]
) -> Mapping[UUID, TellwireError]:
    """Which of these new messages name a file that they cannot carry, and why."""
    ids = {used.media_id for one in messages for used in one.content.uploads}
    if not ids:
        return {}
    found = {media.id: media for media in await work.media.find_many(sorted(ids))}
    checked = {one.id: _refusal(one, found) for one in messages}
    return {message_id: error for message_id, error in checked.items() if error is not None}


def _refusal(message: OutboundMessage, found: Mapping[UUID, Media]) -> TellwireError | None:
    for used in message.content.uploads:
        media = found.get(used.media_id)
        try:
            if media is None:
                raise MediaNotFound(field=used.field)
            media.ensure_sendable(used.kind, used.field)
        except TellwireError as error:
            return error
    return None


async def want_uploads(work: Work, messages: Sequence[OutboundMessage], at: datetime) -> None:
    """Have the files in messages that were accepted uploaded, unless Meta has them already.

    They are kept at least until the last of the messages may go.
    """
    by_channel, needed_at = defaultdict[UUID, set[UUID]](set), at
    for message in messages:
        if message.content.uploads:
            by_channel[message.channel_id] |= {used.media_id for used in message.content.uploads}
            needed_at = max(needed_at, message.send_at or at)
    if len(by_channel) > 1:  # Whoever deletes one of them takes it before its uploads, too.
        await work.media.keep(sorted(set().union(*by_channel.values())), needed_at=needed_at)
    for channel_id in sorted(by_channel):
        ids = sorted(by_channel[channel_id])
        await work.media.want_uploads(channel_id, ids, at=at, needed_at=needed_at)


async def find_uploads(
    work: Work, channel_id: UUID, messages: Sequence[OutboundMessage], at: datetime
) -> Uploads:
    """Give each message Meta's ids of the files in it; says which cannot go now, or ever.

    What is missing, or was lost by Meta, is asked for again.
    """
    wanted = {one.id: {used.media_id for used in one.content.uploads} for one in messages}
    known = await _known(work, channel_id, messages, at=at)
    waiting, lost = set[UUID](), dict[UUID, str]()
    for message in messages:
        found = [known.get(media_id) for media_id in wanted[message.id]]
        if (reason := next((_reason(one) for one in found if _reason(one)), None)) is not None:
            lost[message.id] = reason
        elif any(one is not None and one.provider_media_id is None for one in found):
            waiting.add(message.id)
        message.uploaded = {
            one.media_id: one.provider_media_id
            for one in found
            if one is not None and one.provider_media_id is not None
        }
    return Uploads(frozenset(waiting), lost)


async def _known(
    work: Work, channel_id: UUID, messages: Sequence[OutboundMessage], *, at: datetime
) -> Mapping[UUID, Upload]:
    ids = sorted({used.media_id for one in messages for used in one.content.uploads})
    known = dict(await work.media.find_uploads(channel_id, ids, at=at))
    stale = {
        used.media_id
        for one in messages
        for used in one.content.uploads
        if _is_stale(one, known.get(used.media_id))
    }
    if stale:
        await work.media.keep(sorted(stale), needed_at=at)  # Before their uploads, as above.
        await work.media.forget_uploads(channel_id, sorted(stale))
    missing = [media_id for media_id in ids if media_id in stale or media_id not in known]
    if missing:
        await work.media.want_uploads(channel_id, missing, at=at, needed_at=at)
        again = await work.media.find_uploads(channel_id, missing, at=at)
        known = {one: known[one] for one in known.keys() - set(missing)} | dict(again)
    return known


def _is_stale(message: OutboundMessage, upload: Upload | None) -> bool:
    """Whether the upload ended before this message was refused for it, or sent again by hand."""
    if upload is None or upload.settled_at is None or message.status_at is None:
        return False
    refused = message.failure is not None and message.failure.code in _LOST
    return (refused or upload.failure is not None) and upload.settled_at <= message.status_at


def _reason(upload: Upload | None) -> str | None:
    """Why the file will never be at Meta; None where it is, or may come to be."""
    return "media_not_available" if upload is None else upload.failure


def heed_lost_upload(message: OutboundMessage, outcome: Outcome) -> Outcome:
    """The outcome, or another attempt with a new upload where Meta may have lost the old one.

    Once: when the same is said of the new upload, it is not the upload's fault.
    """
    if not message.uploaded or not isinstance(outcome, Rejected) or outcome.code != _PARAMETER:
        return outcome
    if message.failure is not None and message.failure.code == _PARAMETER:
        return outcome
    return Deferred(outcome.failure, _ONCE_MORE)
