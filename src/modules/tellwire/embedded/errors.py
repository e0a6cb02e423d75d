"""What can go wrong when Tellwire starts servers of its own; each text says what to do."""

from shared.kernel.errors import TellwireError


class EmbeddedServiceRunning(TellwireError):
    """A living process already runs the embedded server of this directory."""

    code = "embedded_service_running"
    status = 500
    title = "Another process already runs the embedded server of this directory"


class EmbeddedDirectoryUnusable(TellwireError):
    """The directory cannot hold the data: not writable, not ours, or of another version."""

    code = "embedded_directory_unusable"
    status = 500
    title = "The directory cannot hold an embedded server's data"


class EmbeddedServiceFailed(TellwireError):
    """The embedded server did not start or answer; the detail ends with its last log lines."""

    code = "embedded_service_failed"
    status = 500
    title = "The embedded server did not start"
