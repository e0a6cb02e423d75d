"""Faults set over the control API: for the next messages, a share of them, or one number."""

from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from whatsapp_simulator.behaviour import Behaviour


@dataclass(slots=True, kw_only=True)
class Fault:
    """A behaviour for messages of one number (or all): the next `count`, or with `probability`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    behaviour: Behaviour
    phone_number_id: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    used: int = 0


class InvalidFault(Exception):
    """The fault cannot be read; the text says where."""


def parse_fault(raw: Any) -> Fault:
    """Read a fault from JSON; raises `InvalidFault`."""
    try:
        return TypeAdapter(Fault).validate_python(raw)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidFault(where) from None


class Faults:
    """The faults in force, asked in the order in which they were set."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.active: list[Fault] = []

    def take(self, phone_number_id: str) -> Behaviour | None:
        """The behaviour for the next message of a number, if a fault strikes it."""
        for fault in self.active:
            if fault.phone_number_id not in {None, phone_number_id}:
                continue
            if fault.probability < 1 and self._rng.random() >= fault.probability:
                continue
            fault.used += 1
            if fault.count is not None and fault.used >= fault.count:
                self.active.remove(fault)
            return fault.behaviour
        return None
