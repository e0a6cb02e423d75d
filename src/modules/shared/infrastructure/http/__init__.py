"""What every HTTP entry point shares: problem documents, request ids, bounded bodies."""
