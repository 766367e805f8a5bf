"""Who answers on the two ports: reviews on the one, health, readiness and metrics on the other.

Neither needs access to the API, a token or a writable file; kubernetes never enters here.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from reconciler.admission import review
from reconciler.admission.certificate import ServedCertificate
from reconciler.admission.connection import Head, Response
from reconciler.admission.metrics import Cause, Metrics

if TYPE_CHECKING:
    from reconciler.admission.listener import Listener

PATH: Final = "/webhooks/seccomp-profile"

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Reviews:
    """Answers AdmissionReviews. With `client_names` only clients whose certificate has one of them get an answer."""

    def __init__(
        self, served: ServedCertificate, metrics: Metrics, rules: review.Rules, client_names: frozenset[str]
    ) -> None:
        self._served = served
        self._metrics = metrics
        self._rules = rules
        self._client_names = client_names

    def refuse(self, head: Head, transport: asyncio.Transport) -> Response | None:
        """Return why the request is not wanted, before its body is read; None where it is."""
        if self._client_names and not self._client_names & _common_names(transport):
            return _refusal(403, Cause.CLIENT_NAME, "the client certificate's common name is not allowed here")
        if head.path != PATH:
            return _refusal(404, Cause.PATH, f"expected the path {PATH}")
        if head.method != "POST":
            return _refusal(405, Cause.METHOD, "expected POST")
        if head.media_type != "application/json" or head.is_encoded:
            return _refusal(415, Cause.MEDIA_TYPE, "expected Content-Type application/json, not encoded")
        if (head.length or 0) > review.MAX_REVIEW_BYTES:
            return _refusal(413, Cause.TOO_LARGE, f"expected at most {review.MAX_REVIEW_BYTES} bytes")
        return None

    def respond(self, head: Head, body: bytes) -> Response:  # noqa: ARG002 - what a head may say was checked before
        """Return the answer to a review."""
        began = time.perf_counter()
        try:
            answer = review.answer(body, self._rules, witness=self._served.fingerprint)
        except review.MalformedReviewError as error:
            return _refusal(400, Cause.MALFORMED, str(error))
        except Exception:
            log.exception("review.failed")
            return _refusal(500, Cause.DEFECT, "a defect of the admission server; its log has more")
        self._metrics.duration.observe(time.perf_counter() - began)
        self._metrics.reviews[answer.reason].inc()
        return Response(200, answer.body, "application/json")


class Status:
    """Answers on the plain port: /healthz, /readyz, /metrics."""

    def __init__(self, served: ServedCertificate, metrics: Metrics) -> None:
        self.listener: Listener | None = None  # of the reviews, once it listens
        self.presented = b""  # the leaf that a client of that listener saw last
        self._served = served
        self._metrics = metrics

    def refuse(self, head: Head, transport: asyncio.Transport) -> Response | None:  # noqa: ARG002 - nothing to tell apart
        """Refuse what is no GET."""
        return None if head.method in ("GET", "HEAD") else _refusal(405, Cause.METHOD, "expected GET")

    def respond(self, head: Head, body: bytes) -> Response:  # noqa: ARG002 - a GET has none
        """Return the page."""
        if head.path == "/metrics":
            return Response(200, generate_latest(self._metrics.registry), CONTENT_TYPE_LATEST)
        if head.path == "/healthz":
            return Response(200, b"ok\n")
        if head.path == "/readyz":
            trouble = self.trouble()
            return Response(503 if trouble else 200, f"{trouble or 'ok'}\n".encode())
        return Response(404, b"expected /healthz, /readyz or /metrics\n")

    def trouble(self) -> str:
        """Return why the server is not ready; empty when it is."""
        if (trouble := self._served.trouble()) or self.listener is None:
            return trouble or "not listening yet"
        if self.listener.draining:
            return "draining"
        return "" if self.presented == self._served.der else "the listener presents another certificate"


def _refusal(status: int, cause: Cause, words: str) -> Response:
    return Response(status, f"{words}\n".encode(), cause=cause)


def _common_names(transport: asyncio.Transport) -> set[str]:
    certificate = transport.get_extra_info("peercert") or {}
    return {value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName"}
