"""Errors, identifiers, time and secrets: plain Python without a framework."""
