"""Connections to Redis and what is asserted of them."""
