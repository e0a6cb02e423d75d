"""Row classes and repositories; a row class never leaves this package."""
