"""A directory that one process at a time runs a server in."""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from tellwire.embedded.account import Account
from tellwire.embedded.errors import EmbeddedDirectoryUnusable, EmbeddedServiceRunning

LOCK_FILE = "tellwire.lock"
# sockaddr_un holds 104 bytes on macOS and 108 on Linux; the longest name of ours needs 16 of them.
_LONGEST_SOCKET_PATH_BYTES = 100


class DirectoryLock:
    """Holds a directory for this process until `release` or death, whichever comes first.

    The kernel drops the lock with the process, `SIGKILL` included: a lock that can be had means
    that nobody alive looks after the directory, whatever files lie in it.
    """

    def __init__(self, directory: Path, *, what: str, account: Account) -> None:
        self._path = directory / LOCK_FILE
        self._account = account
        self._what = what
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock at once, or raise `EmbeddedServiceRunning` with the holder's process id."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise unusable(self._path.parent, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise EmbeddedServiceRunning(
                f"{self._what} in {self._path.parent} is run by process {holder}: use it, stop "
                "that process, or choose another TELLWIRE_DATA_DIRECTORY"
            ) from None
        self._account.take_over(self._path)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the directory free; the file stays, since removing it would race with a taker."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def own_directory(directory: Path, *, account: Account, files: Collection[str]) -> None:
    """Make `directory` the account's alone (mode 0700), unless it holds more than `files`."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = sorted(entry.name for entry in directory.iterdir())
        strangers = [name for name in names if not any(fnmatch(name, ours) for ours in files)]
        if strangers:
            raise EmbeddedDirectoryUnusable(
                f"{directory} holds other files ({strangers[0]}): "
                "give the server a directory of its own"
            )
        account.take_over(directory)
        directory.chmod(0o700)
    except OSError as error:
        raise unusable(directory, error) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise EmbeddedDirectoryUnusable(f"{directory} is not writable for uid {os.geteuid()}")


def unusable(directory: Path, error: OSError) -> EmbeddedDirectoryUnusable:
    """The typed error for what the operating system says about `directory`."""
    owner = nearest_existing(directory).stat().st_uid
    return EmbeddedDirectoryUnusable(
        f"{directory} cannot be used by uid {os.geteuid()}: {error.strerror} "
        f"(owned by uid {owner}); run as its owner, remove it, or choose another "
        "TELLWIRE_DATA_DIRECTORY"
    )


def nearest_existing(path: Path) -> Path:
    """`path`, or the closest parent that exists and can be looked at."""
    for candidate in (path, *path.parents):
        try:
            candidate.stat()
        except OSError:
            continue
        return candidate
    return Path("/")


def private_directory(parent: Path, *, of: Path, account: Account) -> Path:
    """A directory below the shared `parent`, named after `of`, that only the account enters.

    Others can write in `parent`, so a directory or link somebody else made there is refused.
    """
    digest = hashlib.sha256(os.fsencode(of)).hexdigest()[:16]
    path = parent / f"tellwire-{account.uid}-{digest}"
    try:
        path.mkdir(mode=0o700)
        account.take_over(path)
    except FileExistsError:
        found = path.lstat()
        ours = found.st_uid == account.uid and not found.st_mode & 0o077
        if not (stat.S_ISDIR(found.st_mode) and ours):
            raise EmbeddedDirectoryUnusable(
                f"{path} exists but is not a private directory of uid {account.uid}: remove it"
            ) from None
    except OSError as error:
        raise unusable(path, error) from error
    return path


def socket_directory(directory: Path, *, name: str, account: Account) -> Path:
    """`directory` itself, or a short private one where the socket's path would be too long."""
    if len(os.fsencode(directory / name)) <= _LONGEST_SOCKET_PATH_BYTES:
        return directory
    for parent in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp")):  # noqa: S108  # made private
        fits = len(os.fsencode(parent)) + len(name) + 40 <= _LONGEST_SOCKET_PATH_BYTES
        if fits and account.can_enter(parent):
            return private_directory(parent, of=directory, account=account)
    raise EmbeddedDirectoryUnusable(f"no temporary directory is short enough for {name}'s socket")
