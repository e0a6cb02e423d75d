"""Structured logs with redaction, and metrics."""
