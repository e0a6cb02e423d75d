"""Meta's Cloud API: payloads, client, outcomes and webhooks."""
