"""What customers write: each message stored once, with the conversation that it opens."""

from collections.abc import Sequence
from dataclasses import dataclass

from whatsapp.application.applied import InboundApplied
from whatsapp.application.person import phone_of, user_of
from whatsapp.application.ports import Work
from whatsapp.domain.entities import InboundMessage
from whatsapp.domain.media import Media, MediaDirection, digest_of, is_media_id
from whatsapp.domain.media_type import MediaKind, essence
from whatsapp.domain.webhook import InboundReceived
from whatsapp.domain.webhook_inbox import Route


@dataclass(frozen=True, slots=True)
class ApplyInbound:
    """Stores inbound messages of one channel; gives those that were new."""

    async def __call__(
        self, work: Work, route: Route, received: Sequence[InboundReceived]
    ) -> Sequence[InboundApplied]:
        """One statement each, unique by channel and wamid; one more for the file that it brings."""
        applied: list[InboundApplied] = []
        # In one order for all processors: two that write to the same conversations wait for,
        # and not on, each other.
        for one in sorted(received, key=lambda e: (e.wa_id or "", e.user_id or "")):
            stored = await work.messages.save_inbound(message_of(route, one))
            if not stored.replayed:
                applied.append(InboundApplied(received=one, stored=stored))
                if (media := _media(stored)) is not None:
                    await work.media.expect(media)
        return applied


def _media(message: InboundMessage) -> Media | None:
    """The file that has to be fetched for a message; None where it brings none that has an id."""
    file = message.content.media
    if file is None or not is_media_id(file.id):
        return None
    return Media(
        tenant_id=message.tenant_id,
        direction=MediaDirection.INBOUND,
        kind=MediaKind(message.content.type),
        channel_id=message.channel_id,
        message_id=message.id,
        provider_media_id=file.id,
        mime_type=essence(file.mime_type) or None,
        filename=file.filename,
        sha256=digest_of(file.sha256),
    )


def message_of(route: Route, received: InboundReceived) -> InboundMessage:
    """The message that an element is to one channel; nothing is stored yet."""
    return InboundMessage(
        tenant_id=route.tenant_id,
        channel_id=route.channel_id,
        wamid=received.wamid,
        content=received.content,
        sent_at=received.sent_at,
        sender=phone_of(received.wa_id),
        sender_user_id=user_of(received.user_id),
        profile_name=received.profile_name,
        username=received.username,
        context_wamid=received.context_wamid,
        raw=received.raw,
    )
