"""Things with an identity and a life: channels and messages."""
