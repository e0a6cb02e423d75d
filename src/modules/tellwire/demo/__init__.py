"""The demonstration: two tenants, a few hundred messages, a simulator in Meta's place, a report."""
