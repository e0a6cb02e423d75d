"""Real PostgreSQL and Redis as child processes, for a machine that has neither."""
