"""Tenants, their members and API keys: who is calling."""
