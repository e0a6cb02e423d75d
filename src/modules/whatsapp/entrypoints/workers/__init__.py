"""Long-running work: dispatching, retrying, settling, and emptying the webhook inbox."""
