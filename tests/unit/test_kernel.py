import copy
import json
import pickle
from datetime import UTC

import pytest

from shared.kernel.clock import utc_now
from shared.kernel.errors import TellwireError
from shared.kernel.ids import new_id
from shared.kernel.secret import Secret

MARK = "EAAG-canary-7f3a"


def test_ids_are_version_7_and_strictly_increase() -> None:
    ids = [new_id() for _ in range(20_000)]

    assert ids == sorted(set(ids))
    assert {(i.version, i.variant) for i in ids} == {(7, "specified in RFC 4122")}


def test_the_clock_is_aware_and_in_utc() -> None:
    assert utc_now().tzinfo is UTC


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{:>40}".format, lambda s: f"{s!r}"])
def test_a_secret_does_not_show_itself(show) -> None:
    assert MARK not in show(Secret(MARK))


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, hash])
def test_a_secret_refuses_to_leave(leave) -> None:
    with pytest.raises(TypeError) as refused:
        leave(Secret(MARK))

    assert MARK not in str(refused.value)


def test_secrets_compare_by_their_text_only_with_secrets() -> None:
    assert Secret(MARK) == Secret(MARK)
    assert Secret(MARK) != Secret("other")
    assert Secret(MARK) != MARK


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*(_subclasses(sub) for sub in cls.__subclasses__()))


def test_every_error_class_has_its_own_code() -> None:
    classes = _subclasses(TellwireError)
    assert len({cls.code for cls in classes}) == len(classes)
