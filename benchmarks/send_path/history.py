"""Two million messages that were sent long ago, with their attempts."""

from typing import Final

from benchmarks.servers import Database

from whatsapp.domain.entities import Channel

LOADED: Final = 2_000_000


async def load_history(database: Database, channel: Channel) -> None:
    """Load them for `channel`, as if they had been read."""
    tenant, of = f"'{channel.tenant_id}'::uuid", f"'{channel.id}'::uuid"
    await database.as_superuser(
        "SET session_replication_role = replica",  # No foreign key is checked a million times.
        "SET synchronous_commit = off",
        f"""
        INSERT INTO whatsapp_outbound_messages
            (tenant_id, id, channel_id, recipient, type, body, idempotency_key, digest, status,
             lane, details, attempts, wamid, created_at, status_at)
        SELECT {tenant}, uuidv7(interval '-30 days'), {of}, '+4915' || lpad(i::text, 9, '0'),
               'text', jsonb_build_object('body', 'Your order ' || i || ' is on its way'),
               'history' || lpad(i::text, 9, '0'), sha256(i::text::bytea), 'read',
               1, '{{}}', 1, 'wamid.history' || i, now() - interval '30 days',
               now() - interval '30 days'
        FROM generate_series(1, {LOADED}) AS i
        """,  # noqa: S608  # our own numbers and ids
        """
        INSERT INTO whatsapp_message_attempts
            (tenant_id, id, message_id, number, started_at, finished_at, outcome)
        SELECT tenant_id, id, id, 1, created_at, created_at, 'accepted'
        FROM whatsapp_outbound_messages WHERE wamid LIKE 'wamid.history%'
        """,
        "VACUUM (ANALYZE) whatsapp_outbound_messages",
        "VACUUM (ANALYZE) whatsapp_message_attempts",
        "CHECKPOINT",
    )
