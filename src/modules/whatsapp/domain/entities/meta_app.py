"""A Meta app: whoever posts webhooks here, and the secrets that prove it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from shared.kernel.errors import InvalidInput, NotFoundException
from shared.kernel.secret import Secret

APP_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""What may stand in the address that an app posts to."""


class InvalidMetaApp(InvalidInput):
    """A property of the app is not what it may be."""

    code = "invalid_meta_app"
    title = "The Meta app is not valid"


class MetaAppNotFound(NotFoundException):
    """The app was never taken in here."""

    code = "meta_app_not_found"
    title = "No Meta app with this id exists here; add it first"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaApp:
    """An app that belongs to the installation; two live secrets let one be rotated in peace."""

    app_id: str
    secret: Secret
    verify_token: Secret
    previous_secret: Secret | None = None

    @property
    def secrets(self) -> Sequence[Secret]:
        """The secrets that Meta may sign with now."""
        return (
            (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)
        )

    def with_secret(self, secret: Secret) -> Self:
        """Signed with `secret` from now on; what was signed with the one before still counts."""
        if secret == self.secret:
            return self
        return replace(self, secret=secret, previous_secret=self.secret)

    def without_previous(self) -> Self:
        """Once Meta signs with the new secret alone."""
        return replace(self, previous_secret=None)
