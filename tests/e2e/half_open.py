"""Opens many connections that say half of a request and no more: `half_open.py PORT NUMBER`.

A process of its own, with as many files as the system allows. It says `open N` when they stand, and
`ended N M` when the server has ended all: how many there were, and how many were told 408.
"""

import asyncio
import resource
import sys

HALF = b"POST /webhooks/whatsapp/1 HTTP/1.1\r\nHost: a\r\nX-Slow: "
TOGETHER = 200


async def open_one(port: int, gate: asyncio.Semaphore) -> tuple:
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2048)
        writer.write(HALF)
        await writer.drain()
        return reader, writer


async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    try:
        answer = await reader.read(2048)
    except OSError:
        answer = b""
    writer.close()
    return answer.startswith(b"HTTP/1.1 408 ")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(port: int, number: int) -> None:
    gate = asyncio.Semaphore(TOGETHER)
    pairs = await asyncio.gather(*(open_one(port, gate) for _ in range(number)))
    say(f"open {len(pairs)}")
    told = await asyncio.gather(*(wait_for_end(*pair) for pair in pairs))
    say(f"ended {len(told)} {sum(told)}")


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
