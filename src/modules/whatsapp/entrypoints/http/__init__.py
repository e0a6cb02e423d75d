"""The HTTP API of version 1 and the intake of Meta's webhooks."""
