"""The processes that an installation consists of, as children of a supervisor."""

from pathlib import Path

from shared.infrastructure.settings import Settings
from tellwire.supervisor import Child, Listener, answers_http, tellwire_command


def api_child(settings: Settings) -> Child:
    """The HTTP API; ready when `/readyz` says so."""

    async def ready() -> bool:
        return await answers_http(settings.api_host, settings.api_port)

    return Child(
        name="api",
        command=tellwire_command("api"),
        environment=settings.to_environment(),
        listener=api_listener(settings),
        ready=ready,
    )


def api_listener(settings: Settings) -> Listener:
    """Where the HTTP API listens."""
    return Listener(settings.api_host, settings.api_port, "TELLWIRE_API_PORT")


def worker_children(settings: Settings, number: int) -> list[Child]:
    """Workers; any number of them share the work."""
    return [
        Child(
            name=f"worker-{place}",
            command=tellwire_command("worker"),
            environment=_beside(settings, place - 1).to_environment(),
        )
        for place in range(1, number + 1)
    ]


def _beside(settings: Settings, place: int) -> Settings:
    """The settings of the worker at `place`: each shows its metrics on the next port."""
    first = settings.worker_metrics_port
    if first is None:
        return settings
    return settings.model_copy(update={"worker_metrics_port": first + place})


def simulator_child(config: Path, *, host: str, port: int) -> Child:
    """The simulator with the configuration in a file."""

    async def ready() -> bool:
        return await answers_http(host, port, "/_simulator/health")

    return Child(
        name="simulator",
        command=tellwire_command("simulator", "--config", str(config)),
        listener=Listener(host, port, "TELLWIRE_SIMULATOR_PORT"),
        ready=ready,
    )
