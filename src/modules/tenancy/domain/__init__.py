"""Tenants and API keys as plain Python."""
