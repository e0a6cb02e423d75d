"""What Meta says about a phone number: may it send, and what should an operator know."""

from dataclasses import dataclass, field

_NAME_STATUSES = frozenset({"APPROVED", "AVAILABLE_WITHOUT_REVIEW"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneNumberInfo:
    """A number as Meta reports it; None where Meta said nothing (Meta, Cloud API reference).

    The texts are Meta's own and may be others than those we know of.
    """

    phone_number_id: str
    display_phone_number: str | None = field(default=None, repr=False)
    verified_name: str | None = None
    quality_rating: str | None = None
    code_verification_status: str | None = None
    name_status: str | None = None
    status: str | None = None
    platform_type: str | None = None
    throughput_level: str | None = None
    account_mode: str | None = None
    can_send_message: str | None = None
    webhook_url: str | None = None

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What keeps the number from sending, in words for an operator; empty if nothing does.

        What Meta does not say is no obstacle: fields come and go with versions and permissions.
        """
        found = (
            (self.status not in {None, "CONNECTED"}, f"its status is {self.status}, not CONNECTED"),
            (
                self.platform_type not in {None, "CLOUD_API"},
                f"it is registered for {self.platform_type}, not CLOUD_API",
            ),
            (
                self.can_send_message == "BLOCKED",
                "Meta blocks it from sending; see its health in WhatsApp Manager",
            ),
        )
        return tuple(text for stands, text in found if stands)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not keep it from sending now, but deserves a look."""
        found = (
            (
                # EXPIRED is common on numbers that work.
                self.code_verification_status not in {None, "VERIFIED"},
                f"its ownership check is {self.code_verification_status}, not VERIFIED",
            ),
            (
                self.name_status is not None and self.name_status not in _NAME_STATUSES,
                f"its display name is {self.name_status}, not approved",
            ),
            (self.quality_rating == "RED", "its quality is RED: Meta may restrict it"),
            (self.can_send_message == "LIMITED", "Meta limits what it may send"),
            (self.account_mode == "SANDBOX", "it is a test number"),
        )
        return tuple(text for stands, text in found if stands)
