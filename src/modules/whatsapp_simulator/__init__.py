"""A WhatsApp Cloud API simulator: Meta's endpoints, limits, errors and webhooks on one port."""

from whatsapp_simulator.config import (
    SimulatedNumber,
    SimulatorConfig,
    StatusDelays,
    WebhookSettings,
)
from whatsapp_simulator.server import create_app, serve
from whatsapp_simulator.webhooks import handshake

__all__ = [
    "SimulatedNumber",
    "SimulatorConfig",
    "StatusDelays",
    "WebhookSettings",
    "create_app",
    "handshake",
    "serve",
]
