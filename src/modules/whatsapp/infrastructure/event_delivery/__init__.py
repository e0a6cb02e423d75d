"""How events reach the endpoints of tenants, and where they must never go."""
