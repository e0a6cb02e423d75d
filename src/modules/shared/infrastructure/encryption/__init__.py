"""AES-256-GCM with a key ring, and the column type that uses it."""
