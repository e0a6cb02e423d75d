"""Who is who, and what things are called: wa_id, business-scoped user ids, wamids, trace ids."""

import base64
import hashlib
import itertools
import os
import re
from functools import lru_cache

_PUNCTUATION = str.maketrans("", "", "+ -()")
_DIGITS = re.compile(r"[1-9][0-9]{6,14}", re.ASCII)
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}", re.ASCII)
_BRAZIL_MOBILE = re.compile(r"55(?P<area>[1-9][0-9])9(?P<rest>[0-9]{8})", re.ASCII)
_BRAZIL_AREAS_THAT_KEEP_THE_NINE = range(11, 29)
_MEXICO = re.compile(r"52(?P<rest>[2-9][0-9]{9})", re.ASCII)
_ARGENTINA = re.compile(r"54(?P<rest>[1-8][0-9]{9})", re.ASCII)
_CACHED_RECIPIENTS = 50_000


def digits_of(number: str) -> str | None:
    """The digits of a number as typed (`+`, blanks, hyphens, parentheses), or None if not one."""
    digits = number.translate(_PUNCTUATION)
    return digits if _DIGITS.fullmatch(digits) else None


def is_bsuid(text: str) -> bool:
    """Whether the text has the shape of a business-scoped user id (`US.1A2b`, `US.ENT.1A2b`)."""
    return _BSUID.fullmatch(text) is not None


@lru_cache(_CACHED_RECIPIENTS)
def wa_id_of(digits: str) -> str:
    """The id WhatsApp knows the number by; differs from what was typed in BR, MX and AR.

    Brazil loses the mobile 9 outside area codes 11 to 28, Mexico gains a 1, Argentina a 9.
    """
    if brazil := _BRAZIL_MOBILE.fullmatch(digits):
        if int(brazil["area"]) in _BRAZIL_AREAS_THAT_KEEP_THE_NINE:
            return digits
        return f"55{brazil['area']}{brazil['rest']}"
    if mexico := _MEXICO.fullmatch(digits):
        return f"521{mexico['rest']}"
    if argentina := _ARGENTINA.fullmatch(digits):
        return f"549{argentina['rest']}"
    return digits


@lru_cache(_CACHED_RECIPIENTS)
def user_id_of(wa_id: str) -> str:
    """The business-scoped user id of a number: the same on every call and in every process."""
    digest = hashlib.blake2b(wa_id.encode(), digest_size=8).digest()
    return f"US.{int.from_bytes(digest, 'big')}"


class Names:
    """Makes ids that no other process of the simulator makes."""

    def __init__(self) -> None:
        self._process = os.urandom(5).hex().upper()
        self._counter = itertools.count(1)
        self._trace = base64.urlsafe_b64encode(os.urandom(9)).decode().rstrip("=")

    def wamid(self, user: str, *, inbound: bool = False) -> str:
        """A message id built like Meta's: base64 of the user and eighteen hex digits."""
        who = user.encode()[:120]
        direction = b"\x15\x02\x00\x12\x18\x12" if inbound else b"\x15\x02\x00\x11\x18\x12"
        tail = f"{self._process}{next(self._counter) & 0xFFFFFFFF:08X}".encode()
        packed = b"\x1c\x18%c%b%b%b\x00" % (len(who), who, direction, tail)
        return "wamid." + base64.b64encode(packed).decode()

    def trace_id(self) -> str:
        """An `fbtrace_id`."""
        return f"A{self._trace}{next(self._counter):x}"

    def digits(self) -> str:
        """A numeric id of sixteen digits, as media, templates and WABAs have."""
        return (
            str(int(self._process, 16) % 10**9 + 10**9)[:9] + f"{next(self._counter) % 10**7:07d}"
        )
