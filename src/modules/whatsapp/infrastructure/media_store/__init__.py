"""Where the bytes of media lie: a directory, or a bucket of an S3-compatible store."""
