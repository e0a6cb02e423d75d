"""A Meta app: whoever posts webhooks here, and the secrets that prove it."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.kernel.secret import Secret


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
