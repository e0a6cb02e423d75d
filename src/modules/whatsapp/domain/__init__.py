"""Channels, messages and their rules as plain Python."""
