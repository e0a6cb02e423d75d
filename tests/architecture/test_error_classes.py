"""An error class is a contract: its code is stable, its status fits HTTP, its title says enough."""

import importlib
import pkgutil
import re
from collections import Counter

import pytest

from shared.kernel.errors import TellwireError

ROOTS = ("shared", "tenancy", "whatsapp", "whatsapp_simulator", "tellwire")
LONGEST_TITLE = 100
MAY_PASS = {408, 409, 425, 429, 503}


def _subclasses(kind: type[TellwireError]) -> set[type[TellwireError]]:
    return {kind}.union(*(_subclasses(one) for one in kind.__subclasses__()))


@pytest.fixture(scope="module")
def errors() -> list[type[TellwireError]]:
    for root in ROOTS:
        package = importlib.import_module(root)
        for found in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    # Tests define errors too, and so do mixins without a code of their own.
    ours = [one for one in _subclasses(TellwireError) if one.__module__.partition(".")[0] in ROOTS]
    return sorted(ours, key=lambda one: one.__qualname__)


def test_every_error_class_has_a_code_of_its_own(errors) -> None:
    assert [one.__name__ for one in errors if "code" not in vars(one)] == []
    codes = Counter(one.code for one in errors)
    assert [code for code, times in codes.items() if times > 1] == []


def test_codes_are_spelt_in_one_way(errors) -> None:
    assert [
        one.code for one in errors if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", one.code)
    ] == []


def test_every_error_class_has_a_title_of_its_own_that_is_a_short_sentence(errors) -> None:
    assert [one.__name__ for one in errors if "title" not in vars(one)] == []
    assert [
        (one.__name__, one.title)
        for one in errors
        if not one.title[:1].isupper() or one.title.endswith(".") or len(one.title) > LONGEST_TITLE
    ] == []


def test_statuses_are_those_of_refusals_and_only_what_may_pass_is_retryable(errors) -> None:
    assert [one.__name__ for one in errors if not 400 <= one.status <= 599] == []
    assert [one.__name__ for one in errors if one.retryable and one.status not in MAY_PASS] == []


def test_no_error_class_shares_its_name_with_another(errors) -> None:
    names = Counter(one.__name__ for one in errors)

    assert [name for name, times in names.items() if times > 1] == []
