"""HTTP API, workers and command line of the WhatsApp module."""
