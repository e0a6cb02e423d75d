"""docs/http-api.md runs from top to bottom, as it is printed, against an installation."""

import asyncio
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.infrastructure.settings import Settings
from stack import APP_ID, VERIFY_TOKEN, running_stack
from tellwire.api import create_api

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
STEP = re.compile(
    r"^```console\n\$ (?P<command>(?:printf [^|\n]* \| )?curl .*?)\n```\n\n"
    r"(?P<status>\d{3})(?P<headers>[^\n]*):\n\n"
    r"```json\n(?P<answer>.*?)\n```$"
    r"|^<!-- keep (?P<member>\w+) as (?P<name>\w+) -->$"
    r"|^<!-- wait until (?P<awaited>\w+) is (?P<wanted>\w+) -->$",
    re.MULTILINE | re.DOTALL,
)
ANY = "..."
TAGS = {"Messages", "Dead letters", "Channels", "Meta's endpoint", "Webhooks from Meta"}
"""Whose every operation the page has to show."""


def differences(shown, answer, at="answer"):
    """Where an answer is not what the page shows; `"..."` stands for anything but null."""
    if shown == ANY:
        return [] if answer is not None else [f"{at} is null"]
    if isinstance(shown, dict) and isinstance(answer, dict):
        named = set(shown) - {ANY}
        wrong = [f"{at}.{key} is not there" for key in sorted(named - set(answer))]
        if ANY not in shown:
            wrong += [f"{at}.{key} is not shown" for key in sorted(set(answer) - named)]
        both = sorted(named & set(answer))
        return wrong + [w for k in both for w in differences(shown[k], answer[k], f"{at}.{k}")]
    if isinstance(shown, list) and isinstance(answer, list) and len(shown) == len(answer):
        pairs = enumerate(zip(shown, answer, strict=True))
        return [w for i, (s, a) in pairs for w in differences(s, a, f"{at}[{i}]")]
    return [] if shown == answer else [f"{at} is {answer!r}, not {shown!r}"]


def test_a_difference_is_found_wherever_it_is() -> None:
    shown = {"a": [{"b": 1, "...": "..."}], "c": "..."}

    assert differences(shown, {"a": [{"b": 1, "x": 2}], "c": 3}) == []
    assert differences(shown, {"a": [{"b": 2}], "c": None, "d": 4}) == [
        "answer.d is not shown",
        "answer.a[0].b is 2, not 1",
        "answer.c is null",
    ]
    assert differences(shown, {"a": []})[1].startswith("answer.a is [], not [{")


@dataclass
class Reader:
    """Somebody who types what the page says."""

    stack: object
    sender: object
    variables: dict
    answer: object = None

    async def run(self, command: str) -> tuple[int, str, str]:
        """Type a command; gives status, head and body of the answer."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", command),
            env=self.stack.environment | self.variables | {"CURL_HOME": str(self.stack.directory)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        text, _, status = out.decode().rpartition("\n")
        head, found, body = text.replace("\r\n", "\n").partition("\n\n")
        return int(status), *((head, body) if found and " -i " in command else ("", text))

    async def until(self, name: str, wanted: str) -> None:
        ident = self.variables[name]
        ended = await self.stack.follow(self.sender, [ident], within=30)
        assert ended[ident]["status"] == wanted, self.stack.logs()

    async def take(self, step: re.Match[str]) -> None:
        """One step of the page."""
        if step["name"]:
            self.variables[step["name"]] = self.answer[step["member"]]
        elif step["awaited"]:
            await self.until(step["awaited"], step["wanted"])
        else:
            status, head, body = await self.run(step["command"])
            assert status == int(step["status"]), (step["command"], body)
            for header in re.findall(r"`([A-Z][\w-]+: .+?)`", step["headers"]):
                assert header.lower() in head.lower(), (step["command"], head)
            self.answer = json.loads(body)
            wrong = differences(json.loads(step["answer"]), self.answer)
            assert wrong == [], step["command"]


@pytest.mark.timeout(540)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_example_of_the_page_gives_the_answer_that_it_shows(directory) -> None:
    text = PAGE.read_text("utf-8")
    (directory / ".curlrc").write_text('silent\nshow-error\nwrite-out = "\\n%{http_code}"\n')
    async with running_stack(directory, workers=1) as stack:
        tenant = await stack.command("tenant", "create", "Ana's Bakery")
        key = await stack.command("key", "create", "--tenant", tenant)
        variables = {"TELLWIRE": stack.api, "KEY": key, "APP": APP_ID, "VERIFY_TOKEN": VERIFY_TOKEN}
        reader = Reader(stack, Customer(key), variables)

        steps = list(STEP.finditer(text))
        for step in steps:
            await reader.take(step)

    commands = [step["command"] for step in steps if step["command"]]
    assert len(commands) == len(re.findall(r"^\$ .*\bcurl ", text, re.MULTILINE))


@dataclass
class Customer:
    """Whose key it is."""

    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def test_every_operation_has_an_example() -> None:
    """The page shows each operation that the OpenAPI document has under these headings."""
    document = create_api(Settings(_env_file=None)).openapi()
    operations = {
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if TAGS & set(operation["tags"])
    }
    calls = {called(step["command"]) for step in STEP.finditer(PAGE.read_text()) if step["command"]}

    missing = [
        (method, path.pattern)
        for method, path in operations
        if not any(m == method and path.fullmatch(p) for m, p in calls)
    ]
    assert missing == []
    assert len(operations) > 15


def called(command: str) -> tuple[str, str]:
    """The method and path of a command."""
    method = re.search(r" -X ([A-Z]+)", command)
    url = re.search(r"\$TELLWIRE([^\s\"]+)", command)
    return method[1] if method else "GET", urlsplit(url[1]).path
