"""Times of several clocks, brought under that of PostgreSQL, by which the queue is read."""


def due_by_our_clock(message: str) -> str:
    """When `message`, with its columns and `due_at`, may go: at once, if it names no time.

    What is due at once was accepted by the clock of some process; where that is ahead of ours, it
    would wait for as long.
    """
    return (
        f"CASE WHEN coalesce({message}.next_attempt_at, {message}.send_at) IS NULL"
        f" THEN least({message}.due_at, now()) ELSE {message}.due_at END"
    )
