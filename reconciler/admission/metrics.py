"""What the admission server counts, in a registry of its own. Names and units follow Prometheus' conventions."""

from enum import StrEnum
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from reconciler.admission.review import Reason

_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_PREFIX: Final = "seccomp_reconciler_admission"


class Cause(StrEnum):
    """Why a request or a connection was turned away."""

    PATH = "path"
    METHOD = "method"
    MEDIA_TYPE = "media-type"
    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    SLOW_HEADER = "slow-header"
    SLOW_BODY = "slow-body"
    CLIENT_NAME = "client-name"
    CONNECTIONS = "connections"
    DEFECT = "defect"


class Metrics:
    """One server's metrics; `registry` is what /metrics shows."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus_client has no types here
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("seccomp_reconciler_build", "Version of the program.", registry=registry).info(
            {"version": version("seccomp-reconciler")}
        )
        reviews = Counter(f"{_PREFIX}_reviews", "AdmissionReviews answered.", ["outcome", "reason"], registry=registry)
        # Children are made once: all series exist from the start, and a review costs no lookup.
        self.reviews: Final = {
            reason: reviews.labels("patched" if reason is Reason.DEFAULTED else "unpatched", reason.value)
            for reason in Reason
        }
        rejected = Counter(
            f"{_PREFIX}_rejected_requests", "Requests and connections turned away.", ["cause"], registry=registry
        )
        self.rejected: Final = {cause: rejected.labels(cause.value) for cause in Cause}
        self.duration: Final = Histogram(
            f"{_PREFIX}_review_duration_seconds",
            "Seconds from the complete body of an AdmissionReview to its answer.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.in_flight: Final = Gauge(
            f"{_PREFIX}_requests_in_flight", "Requests whose answer is not complete.", registry=registry
        )
        self.connections: Final = Gauge(f"{_PREFIX}_connections", "Open connections.", registry=registry)
        self.certificate_expiry: Final = Gauge(
            f"{_PREFIX}_certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires, in seconds since the epoch; 0 without one.",
            registry=registry,
        )
        self.certificate_not_before: Final = Gauge(
            f"{_PREFIX}_certificate_not_before_timestamp_seconds",
            "When the validity of the certificate that is served began, in seconds since the epoch; 0 without one.",
            registry=registry,
        )
        reloads = Counter(
            f"{_PREFIX}_certificate_reloads",
            "Certificates taken from the folder, or refused.",
            ["result"],
            registry=registry,
        )
        self.reloaded: Final = reloads.labels("accepted")
        self.refused: Final = reloads.labels("refused")
        self.draining: Final = Gauge(f"{_PREFIX}_draining", "1 while the server drains.", registry=registry)
