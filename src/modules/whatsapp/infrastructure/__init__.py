"""PostgreSQL, Redis and Meta's Cloud API behind the domain's interfaces."""
