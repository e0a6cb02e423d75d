"""What the embedded servers share: a directory of their own, an account, a start and a stop."""

import importlib.util
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tellwire.embedded.account import Account
from tellwire.embedded.directory import (
    LOCK_FILE,
    DirectoryLock,
    nearest_existing,
    own_directory,
    private_directory,
    socket_directory,
)
from tellwire.embedded.errors import EmbeddedServiceFailed
from tellwire.embedded.process import ServerProcess, end_orphan, runs_in

_START_TIMEOUT = timedelta(seconds=60)
_STOP_TIMEOUT = timedelta(seconds=30)

_logger = logging.getLogger(__name__)


class EmbeddedServer(ABC):
    """A server that lives in `directory`, keeps its data there, and ends with its starter.

    Whoever enters the directory (mode 0700) is trusted. Root switches to the directory's owner or
    `nobody`, and moves to a private directory below /var/tmp where that account cannot enter.
    """

    name: ClassVar[str]
    setting: ClassVar[str]  # What names a server of the operator's own instead.
    package: ClassVar[str]  # The Python package that carries the programs.
    programs: ClassVar[str]  # Where in the package they lie.
    socket_name: ClassVar[str]
    files: ClassVar[Collection[str]]  # What the directory may hold besides log, lock and programs.

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._account = Account.current()
        self._home = self.directory
        self._sockets = self.directory
        self._programs = Path()
        self._lock: DirectoryLock | None = None
        self._server: ServerProcess | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.pid if self._server else None

    @property
    def log_file(self) -> Path:
        """Where the server writes its log; known once started."""
        return self._home / f"{self.name.lower()}.log"

    def start(self) -> None:
        """Make the data if there is none, start the server and wait until it answers.

        Raises `EmbeddedServiceRunning`, `EmbeddedDirectoryUnusable` or `EmbeddedServiceFailed`.
        A server whose starter died is stopped cleanly first, and what it left is mended.
        """
        self._settle_place()
        lock = DirectoryLock(self._home, what=f"The embedded {self.name}", account=self._account)
        lock.acquire()
        self._lock = lock
        try:
            self._programs = self._reachable_programs()
            self._end_predecessor()
            self._prepare()
            self._launch()
        except OSError as error:
            self.stop()
            raise EmbeddedServiceFailed(
                f"{self.name} in {self._home} cannot be started: {error}"
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server in an orderly way; its data stays. Harmless when nothing runs."""
        if self._server is not None:
            self._server.stop(timeout=_STOP_TIMEOUT)
            self._server = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data directory ready for the server; nothing runs in it."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server's command line."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server that we started takes connections."""

    @abstractmethod
    def _recorded_pid(self) -> int | None:
        """The process id in the file that the last server left, if any."""

    @property
    @abstractmethod
    def _working_directory(self) -> Path:
        """The directory that the running server has changed into, which tells it from others."""

    def _mend(self, pid: int) -> None:  # noqa: B027  # not every server leaves something to mend
        """Clear away what a server that is gone left behind, when `pid` means another process."""

    def _settle_place(self) -> None:
        """Decide who runs the server and where, and make that place private."""
        self._account = Account.unprivileged(nearest_existing(self.directory))
        self._home = self.directory
        way = nearest_existing(self.directory.parent)
        if self._account.switch and not self._account.can_enter(way):
            self._home = private_directory(
                Path("/var/tmp"),  # noqa: S108  # made private and checked
                of=self.directory,
                account=self._account,
            )
            _logger.warning(
                "%s does not run as root and uid %d cannot enter %s; its data lies in %s",
                self.name,
                self._account.uid,
                way,
                self._home,
            )
        log = self.log_file.name
        allowed = {LOCK_FILE, "program", self.socket_name, log, f"{log}.1", *self.files}
        own_directory(self._home, account=self._account, files=allowed)
        self._sockets = socket_directory(self._home, name=self.socket_name, account=self._account)

    def _reachable_programs(self) -> Path:
        """The directory of the server's programs; a copy where the account cannot reach them."""
        package = self._package_directory()
        if not self._account.switch or self._account.can_enter(package / self.programs):
            return package / self.programs
        copy = self._home / "program"
        complete = copy / f"complete-{metadata.version(self.package)}"
        if not complete.exists():
            _logger.warning(
                "uid %d cannot enter %s; copied to %s", self._account.uid, package, copy
            )
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(package, copy / self.package, symlinks=True)
            libraries = package.with_name(f"{self.package}.libs")  # Where wheels bring their own.
            if libraries.is_dir():
                shutil.copytree(libraries, copy / libraries.name, symlinks=True)
            complete.touch()
        return copy / self.package / self.programs

    def _package_directory(self) -> Path:
        """Where the package lies; found, not imported, since importing it does work."""
        package = importlib.util.find_spec(self.package)
        if package is None or package.origin is None:
            raise EmbeddedServiceFailed(
                f"the package {self.package} is not installed: install it or set {self.setting}"
            )
        return Path(package.origin).parent

    def _end_predecessor(self) -> None:
        """Stop the server of a starter that died, or mend what one left that is gone.

        We hold the directory's lock, so whatever runs here has lost its starter.
        """
        pid = self._recorded_pid()
        if pid is None:
            return
        socket, place = self._sockets / self.socket_name, self._working_directory
        if not runs_in(place, pid=pid, socket_path=socket):
            self._mend(pid)
            return
        _logger.warning("%s process %d has lost its starter; it is stopped first", self.name, pid)
        end_orphan(pid, lambda: runs_in(place, pid=pid, socket_path=socket), timeout=_STOP_TIMEOUT)

    def _launch(self) -> None:
        server = ServerProcess(
            self._command(), account=self._account, cwd=self._home, log=self.log_file
        )
        self._server = server
        server.wait_until(self._is_ready, timeout=_START_TIMEOUT)
