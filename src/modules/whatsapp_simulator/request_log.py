"""What was received, in order: bounded in memory, appended to a file if asked for."""

from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

import orjson

_CHUNK = 1024


class RequestLog:
    """Remembers the last `capacity` requests as JSON lines, each with its sequence number.

    Lines are kept in joined chunks: a million of small objects would cost the garbage collector a
    pause that the rate limit would see.
    """

    def __init__(self, capacity: int, path: Path | None = None) -> None:
        self._capacity = capacity
        self._chunks: deque[bytes] = deque(maxlen=max(1, capacity // _CHUNK))
        self._open: list[bytes] = []
        self._unwritten: list[bytes] = []
        self._file: BinaryIO | None = None
        self._last = 0
        self.write_failures = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)

    @property
    def last(self) -> int:
        """Sequence number of the newest entry; the first one is 1."""
        return self._last

    def record(self, entry: dict[str, Any]) -> None:
        """Append one entry; `seq` is added here."""
        self._last += 1
        line = orjson.dumps({"seq": self._last, **entry})
        self._open.append(line)
        if self._file is not None:
            self._unwritten.append(line)
        if len(self._open) == _CHUNK:
            self._chunks.append(b"\n".join(self._open))
            self._open.clear()

    def flush(self) -> None:
        """Hand what was recorded to the operating system; a full disk is counted, not raised."""
        if self._file is not None and self._unwritten:
            try:
                self._file.write(b"\n".join(self._unwritten) + b"\n")
            except OSError:
                self.write_failures += 1
            self._unwritten.clear()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def query(self, *, since: int = 0, limit: int, having: bytes = b"") -> bytes:
        """A JSON object with up to `limit` entries after sequence number `since`.

        `having` keeps the lines that contain these bytes. `next` is the `since` of the next page;
        `first` is the oldest entry still remembered.
        """
        oldest = self._last - len(self._open) - _CHUNK * len(self._chunks) + 1
        lines: list[bytes] = []
        reached = max(since, oldest - 1)
        for index in range((reached + 1 - oldest) // _CHUNK, len(self._chunks) + 1):
            start = oldest + index * _CHUNK
            is_open = index == len(self._chunks)
            chunk = self._open if is_open else self._chunks[index].split(b"\n")
            for line in chunk[max(0, reached + 1 - start) :]:
                reached += 1
                if having in line:
                    lines.append(line)
                    if len(lines) == limit:
                        return _page(lines, oldest, reached)
        return _page(lines, oldest, reached)

    def clear(self) -> None:
        """Forget what is in memory; the file and the sequence numbers go on."""
        self.flush()
        self._chunks.clear()
        self._open.clear()


def _page(lines: list[bytes], first: int, reached: int) -> bytes:
    head = b'{"first":%d,"next":%d,"entries":[' % (first, reached)
    return head + b",".join(lines) + b"]}"
