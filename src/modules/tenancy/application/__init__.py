"""Use cases of tenancy; other modules use tenancy only through this package."""
