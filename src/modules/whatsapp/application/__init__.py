"""One module per use case; what they need from outside is in ports.py."""
