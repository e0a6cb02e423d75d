"""Every method of every repository refuses what its signature does not allow, by name, unsent."""

import inspect
from collections.abc import Sequence
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from shared.infrastructure.database import InvalidValue
from tenancy.infrastructure.repositories import (
    SQLAlchemyApiKeyRepository,
    SQLAlchemyTenantRepository,
)
from whatsapp.infrastructure.persistence.repositories import (
    SQLAlchemyAccountRepository,
    SQLAlchemyChannelRepository,
    SQLAlchemyConversationRepository,
    SQLAlchemyConversationViews,
    SQLAlchemyDeliveryLog,
    SQLAlchemyEndpointRepository,
    SQLAlchemyEventLog,
    SQLAlchemyMediaRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemyMessageViews,
)

pytestmark = pytest.mark.postgres

REPOSITORIES = [
    SQLAlchemyAccountRepository,
    SQLAlchemyApiKeyRepository,
    SQLAlchemyChannelRepository,
    SQLAlchemyConversationRepository,
    SQLAlchemyConversationViews,
    SQLAlchemyDeliveryLog,
    SQLAlchemyEndpointRepository,
    SQLAlchemyEventLog,
    SQLAlchemyMediaRepository,
    SQLAlchemyMessageRepository,
    SQLAlchemyMessageViews,
    SQLAlchemyTenantRepository,
]
# The base class names what it is given as its own.
NAMES = {"entity_id": "id"}
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  # as given by who forgot the zone
REPLACED = {("record_template", "provider_account_id")}
METHODS = [
    (kind, name)
    for kind in REPOSITORIES
    for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction)
    if name[0] != "_" and len(inspect.signature(method).parameters) > 1
]


def wrong_for(hint: Any, name: str) -> list[Any]:
    """Values that cannot be one of this annotation."""
    kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    wrong: list[Any] = [object(), {"canary": 1}]
    if NoneType not in kinds:
        wrong.append(None)
    if kinds[0] is str:
        wrong += [7, "a\0b", "\ud800"]
    elif kinds[0] is int:
        wrong += ["7", -1, True, 2**31 if name == "limit" else 2**63]
    elif kinds[0] is datetime:
        wrong += ["canary", NAIVE]
    elif inspect.isclass(origin := get_origin(kinds[0])) and issubclass(origin, Sequence):
        wrong += ["canary", [object()], 7]
    else:
        wrong += ["canary", 7]
    return wrong


@pytest.fixture
def database(module_database):
    """Nothing is stored for good; one database does for all."""
    return module_database


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=lambda one: getattr(one, "__name__", one))
async def test_what_a_signature_does_not_allow_is_refused_by_name_and_nothing_is_sent(
    at, ana, message, kind, name
):
    method = getattr(kind, name)
    hints, parameters = get_type_hints(method), list(inspect.signature(method).parameters)[1:]
    async with at(ana) as desk:
        kept = await desk.messages.save_outbound(message(ana))
        repository = kind(desk.uow.session)
        for one in parameters:
            for wrong in wrong_for(hints[one], one):
                if (name, one) in REPLACED and isinstance(wrong, str):
                    continue
                if one == "limit" and wrong == 2**31 and name == "list":
                    continue  # At most a thousand come, however many are asked for.
                with pytest.raises(InvalidValue) as raised:
                    # Looked at before anybody minds that the others are missing.
                    await getattr(repository, name)(**{one: wrong})
                assert raised.value.field in {one, NAMES.get(one), "message"}, (one, wrong)
                assert "canary" not in str(raised.value)
        assert await desk.messages.get_outbound_by_id(kept.id) == kept
