"""PostgreSQL, Redis, HTTP, encryption and observability, behind narrow interfaces."""
