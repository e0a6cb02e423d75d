"""Who a message goes to, in SQL: the same however they are written, as far as that is known.

A number has one key for all its spellings. A user id has the key of the number by which its
conversation is known, so that messages to either wait for each other. Numbers are not looked up:
what goes to them costs nothing more.
"""

from whatsapp.domain.value_objects.phone_number import OPTIONAL_DIGIT, WITHOUT_DIGIT
from whatsapp.infrastructure.persistence.repositories.conversation_statements import IS_LEFT


def known_number(message: str) -> str:
    """The number by which the user id is known that `message` goes to; NULL for numbers."""
    # Ranges and not equalities, so that only one index has each order: to a plan from when nobody
    # was known any would do.
    return f"""CASE WHEN {message}.recipient NOT LIKE '+%' THEN (
        SELECT v.phone FROM (
            SELECT a.conversation_id FROM whatsapp_conversation_addresses a
            WHERE a.tenant_id = {message}.tenant_id AND a.channel_id = {message}.channel_id
              AND a.address BETWEEN {message}.recipient AND {message}.recipient AND NOT {IS_LEFT}
            ORDER BY a.address LIMIT 1
        ) f CROSS JOIN LATERAL (
            SELECT phone FROM whatsapp_conversations v
            WHERE v.tenant_id = {message}.tenant_id
              AND v.id BETWEEN f.conversation_id AND f.conversation_id
            ORDER BY v.id LIMIT 1
        ) v
    ) END"""  # noqa: S608  # names of our own


def recipient_key(message: str) -> str:
    """The 64-bit number by which the order of messages to one person of one channel is kept.

    Whoever has messages waiting under a user id alone stays there while any of them waits: those
    to the same address keep their order, whatever is learnt of the person meanwhile.
    """
    alone = _key(message, f"{message}.recipient")
    # A range and not an equality, so that only the recipients' index has this order.
    waits = f"""coalesce((
        SELECT true FROM whatsapp_send_queue w
        WHERE w.tenant_id = {message}.tenant_id AND w.recipient_key BETWEEN {alone} AND {alone}
        ORDER BY w.recipient_key, w.id LIMIT 1
    ), false)"""  # noqa: S608  # names of our own
    return f"""CASE WHEN {message}.recipient LIKE '+%' THEN {alone} WHEN {waits} THEN {alone}
        ELSE coalesce((
            SELECT {_key(message, "k.phone")} FROM (SELECT {known_number(message)} AS phone) k
        ), {alone}) END"""  # noqa: S608  # names of our own


def _key(message: str, name: str) -> str:
    """The key of a name; the migration 0017 made those of what waited in the same way."""
    canonical = f"regexp_replace({name}, '{OPTIONAL_DIGIT}', '{WITHOUT_DIGIT}')"
    return f"hashtextextended(CAST({message}.channel_id AS text) || ':' || {canonical}, 0)"
