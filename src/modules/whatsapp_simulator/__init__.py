"""A WhatsApp Cloud API simulator: answers, limits, errors and signed webhooks as Meta has them."""
