"""WhatsApp messaging: accept, pace, send, follow, receive."""
