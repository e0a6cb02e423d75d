from pathlib import Path

import pytest

from tellwire.error_reference import import_everything, markdown

REFERENCE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.fixture(scope="module", autouse=True)
def everything():
    import_everything()


def test_the_error_reference_lists_every_error_class_as_it_is() -> None:
    assert REFERENCE.read_text("utf-8") == markdown(), (
        "Write it anew: python -m tellwire.error_reference > docs/errors.md"
    )
