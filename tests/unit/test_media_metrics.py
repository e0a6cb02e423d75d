from prometheus_client import CollectorRegistry

from shared.kernel.ids import new_id
from tellwire.worker_metrics import WorkerMetrics
from whatsapp.domain.media import MediaFailure
from whatsapp.domain.media_repository import MediaJob, MediaJobKind


def test_every_attempt_to_move_a_file_is_counted_by_what_became_of_it() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    job = MediaJob(new_id(), new_id(), MediaJobKind.FETCH, new_id(), new_id(), 1, new_id())

    metrics.moved(job, None)
    metrics.moved(job, MediaFailure.WRONG_HASH)

    for outcome in ("moved", "media_wrong_hash"):
        labels = {"job": "fetch", "outcome": outcome}
        assert registry.get_sample_value("tellwire_media_moved_total", labels) == 1
