"""Values that hold personal data and do not show it."""


class Masked:
    """A value whose repr, str and format name its class only, so that a log may hold it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}('***')"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)
