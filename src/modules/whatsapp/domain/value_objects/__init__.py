"""Values that are proof of their own shape."""
