"""What the demonstration plays with: tenants, channels, keys, and the simulator's configuration.

The scene is kept in the data directory, readable by its owner alone, so that a second run plays
with the same tenants.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import randbelow, token_urlsafe
from typing import Final, Self
from uuid import UUID

from shared.infrastructure.settings import Settings

SCENE_FILE: Final = "demo.json"
SIMULATOR_FILE: Final = "simulator.json"
APP_ID: Final = "100000000000001"
RATE: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTenant:
    """One tenant of the demonstration; `api_key` and `access_token` are secrets of the scene."""

    name: str
    tenant_id: str
    channel_id: str
    phone_number_id: str
    display_phone_number: str
    access_token: str
    api_key: str

    def __repr__(self) -> str:
        return f"DemoTenant({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Both tenants, and what Meta's app and Tellwire share."""

    app_secret: str
    verify_token: str
    tenants: tuple[DemoTenant, ...]

    def __repr__(self) -> str:
        return f"Scene({len(self.tenants)} tenants)"

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """The scene of an earlier run, if there was one."""
        try:
            kept = json.loads((directory / SCENE_FILE).read_text())
        except FileNotFoundError:
            return None
        tenants = tuple(DemoTenant(**tenant) for tenant in kept.pop("tenants"))
        return cls(tenants=tenants, **kept)

    def save(self, directory: Path) -> None:
        """Keep it for later runs."""
        _write_private(directory / SCENE_FILE, asdict(self))


def simulator_configuration(scene: Scene, settings: Settings, port: int) -> dict[str, object]:
    """The simulator that plays Meta for this scene and reports to this installation."""
    return {
        "app_secret": scene.app_secret,
        "app_id": APP_ID,
        "verify_token": scene.verify_token,
        "host": "127.0.0.1",
        "port": port,
        "webhook_url": f"http://{settings.api_host}:{settings.api_port}/webhooks/whatsapp/{APP_ID}",
        "numbers": [
            {
                "phone_number_id": tenant.phone_number_id,
                "display_phone_number": tenant.display_phone_number,
                "waba_id": f"9{tenant.phone_number_id}",
                "access_token": tenant.access_token,
                "messages_per_second": RATE,
                "verified_name": tenant.name,
            }
            for tenant in scene.tenants
        ],
    }


def write_simulator_file(directory: Path, configuration: dict[str, object]) -> Path:
    """Where the simulator's process reads its configuration."""
    path = directory / SIMULATOR_FILE
    _write_private(path, configuration)
    return path


def new_phone_number_id() -> str:
    """An id as Meta would give, new with overwhelming probability."""
    return f"1{randbelow(10**14):014d}"


def new_access_token() -> str:
    """A token that looks like Meta's."""
    return f"EAAG{token_urlsafe(48).replace('-', '').replace('_', '')}"


def demo_tenant(
    *, name: str, tenant_id: UUID, channel_id: UUID, number: str, token: str, api_key: str
) -> DemoTenant:
    """A tenant as the scene keeps it."""
    return DemoTenant(
        name=name,
        tenant_id=str(tenant_id),
        channel_id=str(channel_id),
        phone_number_id=number,
        display_phone_number=f"1555{number[-7:]}",
        access_token=token,
        api_key=api_key,
    )


def _write_private(path: Path, content: object) -> None:
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
    draft.replace(path)
