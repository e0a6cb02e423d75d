"""Tenancy's tables and repositories."""
