"""The operating system account that a server runs as; PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tellwire.embedded.errors import EmbeddedServiceFailed

# Nothing of the caller's environment reaches a server: no PG* variable, no secret, no locale.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group, and whether processes have to switch to it because we are root."""

    uid: int
    gid: int
    switch: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: dict(_ENVIRONMENT))

    @classmethod
    def current(cls) -> "Account":
        """Whoever runs this process."""
        return cls(uid=os.geteuid(), gid=os.getegid())

    @classmethod
    def unprivileged(cls, directory: Path) -> "Account":
        """Whoever runs this process; if that is root, `directory`'s owner, or else `nobody`."""
        if os.geteuid() != 0:
            return cls.current()
        owner = _entry(directory.stat().st_uid) or _nobody()
        return cls(uid=owner.pw_uid, gid=owner.pw_gid, switch=True)

    def popen_options(self) -> dict[str, Any]:
        """Arguments for `subprocess` that make a child this account's, apart from our terminal."""
        options: dict[str, Any] = {"env": dict(self.environment), "start_new_session": True}
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def take_over(self, path: Path) -> None:
        """Give `path` to this account."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can_enter(self, directory: Path) -> bool:
        """Whether this account may pass through `directory`; asked, not computed."""
        command = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(directory)]
        done = subprocess.run(  # noqa: S603  # fixed command; the path is an argument
            command, check=False, cwd="/", **self.popen_options()
        )
        return done.returncode == 0


def _entry(uid: int) -> pwd.struct_passwd | None:
    """The account of an ordinary user; initdb needs one with an entry in the user database."""
    try:
        return pwd.getpwuid(uid) if uid else None
    except KeyError:
        return None


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServiceFailed(
            "PostgreSQL refuses to run as root and there is no account `nobody`: "
            "run as another user"
        ) from None
