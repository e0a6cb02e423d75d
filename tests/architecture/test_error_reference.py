from collections import Counter
from pathlib import Path

import pytest

from tellwire.error_reference import error_classes, import_everything, markdown

REFERENCE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.fixture(scope="module", autouse=True)
def everything():
    import_everything()


def test_the_error_reference_lists_every_error_class_as_it_is() -> None:
    assert REFERENCE.read_text("utf-8") == markdown(), (
        "Write it anew: python -m tellwire.error_reference > docs/errors.md"
    )


def test_every_error_class_has_a_code_of_its_own() -> None:
    codes = Counter(error.code for error in error_classes())

    assert [code for code, times in codes.items() if times > 1] == []


def test_every_error_class_says_what_it_means_and_has_an_http_status() -> None:
    for error in error_classes():
        assert error.title.strip(), error
        assert error.__doc__, error
        assert 400 <= error.status <= 599, error


def test_what_may_be_tried_again_is_never_the_callers_fault() -> None:
    for error in error_classes():
        if error.retryable:
            assert error.status in {408, 429, 502, 503}, error
