"""Files in a message that a tenant uploaded to Tellwire: found, and named as Meta knows them.

Where Meta's objects take the `id` of an upload (`image.id`, the header of a template or of an
interactive message, a card of a carousel), ours may stand: they are UUIDs, or the same in digits,
which Meta's never are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from whatsapp.domain.media_type import MediaKind
from whatsapp.domain.value_objects.given_id import media_id_behind
from whatsapp.domain.value_objects.message_content.frozen_json import Json

_KINDS: Final = {kind.value: kind for kind in MediaKind} | {"gif": MediaKind.VIDEO}
"""By the key that stands before the id; what a template's header calls a GIF is a short film."""


@dataclass(frozen=True, slots=True)
class UploadReference:
    """Where a message names an uploaded file, and as what it sends it."""

    media_id: UUID
    kind: MediaKind
    field: str


def uploads_in(value: Json, at: str = "") -> Iterator[UploadReference]:
    """Every upload of ours in an object under its type's name, with its JSON path."""
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from uploads_in(item, f"{at}[{place}]")
        return
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        path = f"{at}.{key}" if at else key
        if (found := _ours(key, inner)) is not None:
            yield UploadReference(found, _KINDS[key], f"{path}.id")
        else:
            yield from uploads_in(inner, path)


def with_uploads(value: Json, known: Mapping[UUID, str]) -> Json:
    """The same with Meta's ids instead of ours; what `known` lacks stays."""
    if isinstance(value, tuple):
        return tuple(with_uploads(item, known) for item in value)
    if not isinstance(value, Mapping):
        return value
    changed: dict[str, Json] = {}
    for key, inner in value.items():
        found = _ours(key, inner)
        if found is not None and found in known and isinstance(inner, Mapping):
            changed[key] = {**inner, "id": known[found]}
        else:
            changed[key] = with_uploads(inner, known)
    return changed


def _ours(key: str, inner: Json) -> UUID | None:
    given = inner.get("id") if key in _KINDS and isinstance(inner, Mapping) else None
    return media_id_behind(given) if isinstance(given, str) else None
