"""The examples of the READMEs run as they are printed."""

import re
from pathlib import Path

import pytest

from shared.kernel.errors import NotFoundException
from shared.kernel.ids import new_id

ROOT = Path(__file__).parents[3]
REPOSITORIES = ROOT / "src/modules/whatsapp/infrastructure/persistence/repositories/README.md"


def first_example(document: Path) -> dict:
    code = re.search(
        r"^```python\n(.*?)^```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    names: dict = {}
    exec(compile(code[1], str(document), "exec"), names)  # noqa: S102  # our own document
    return names


@pytest.fixture
def send_message(sessions):  # noqa: ARG001  # configures SQLAlchemyUnitOfWork()
    return first_example(REPOSITORIES)["send_message"]


async def test_the_example_of_the_repositories_stores_an_order_once(send_message, ana) -> None:
    arguments = (ana.tenant_id, new_id(), ana.channel.id, "+49 151 12345678", "On its way", "17")

    first, second = await send_message(*arguments), await send_message(*arguments)

    assert first.status == "queued"
    assert (second.id, second.replayed) == (first.id, True)


async def test_the_example_of_the_repositories_knows_its_own_channels_alone(
    send_message, ana, bea
) -> None:
    with pytest.raises(NotFoundException, match="Channel not found"):
        await send_message(ana.tenant_id, new_id(), bea.channel.id, "+4915112345678", "Hi", "18")


@pytest.mark.usefixtures("sessions")
async def test_the_example_of_the_front_page_queues_a_message(ana) -> None:
    greet = first_example(ROOT / "README.md")["greet"]

    saved = await greet(ana.tenant_id, ana.channel.id, "+4915112345678")

    assert saved.status == "queued"
    assert not saved.replayed
