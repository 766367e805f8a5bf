"""The inputs of one loop: read when they are due, reported when they are new or unreadable, the last good ones kept."""

from typing import TYPE_CHECKING, Final

from reconciler.certificates.rotation import Phase, Proved
from reconciler.cluster import Cluster
from reconciler.controller import inputs
from reconciler.controller.issuing import Issuer
from reconciler.controller.keeping import standing_bundle
from reconciler.controller.reporting import Known, Report
from reconciler.errors import ReconcilerError
from reconciler.registration.identity import Manifest
from reconciler.settings import ReconcilerConfiguration
from reconciler.telemetry.metrics import Input

if TYPE_CHECKING:
    from reconciler.controller.trust import Trust


class Reading:
    """What is asked, and what is to be trusted; `known` carries the last good answers from one loop to the next."""

    def __init__(self, settings: ReconcilerConfiguration, cluster: Cluster, report: Report, known: Known) -> None:
        own = settings.registration.ca.self_signed
        self.known: Final = known
        self.configuration: Final = inputs.configuration_source(settings.gardenlet_configuration, cluster)
        self.issuer: Final = Issuer(own, settings.registration, cluster) if own is not None else None
        self.issued: Trust | None = None
        self._ca = inputs.ca_source(settings.registration.ca, cluster)
        self._retry_seconds = settings.backoff.maximum
        self._report = report

    @property
    def is_rotating(self) -> bool:
        """Whether a rotation of our own certificates waits for proofs."""
        return self.issuer is not None and self.issuer.phase is not Phase.STABLE

    async def refresh_decision(self) -> None:
        """Read what the gate asks; an unreadable document changes nothing."""
        try:
            decision = await inputs.read_decision(self.configuration)
        except ReconcilerError as error:
            self._report.unreadable(Input.CONFIGURATION, error, self.known)
            return
        self._report.read_configuration(self.configuration.origin, decision, self.known)
        self.known.decision = decision

    async def bundle(self, observed: Manifest | None, proved: Proved | None, *, is_due: bool) -> bytes | None:
        """Return what is to be trusted (PEM), read anew where that is due; None where nothing good was ever read."""
        # Another caBundle than ours may be newer than ours: a command that rotates, or another leader, was faster.
        if not is_due and (observed is None or standing_bundle(observed) == self.known.ca_bundle):
            return self.known.ca_bundle
        try:
            bundle = await self._read(observed, proved)
        except ReconcilerError as error:
            self._report.unreadable(Input.CA, error, self.known)
            return self.known.ca_bundle
        self._report.read_ca(self._ca.origin, bundle, self.known)
        self.known.ca_bundle = bundle
        return bundle

    async def _read(self, observed: Manifest | None, proved: Proved | None) -> bytes:
        if self.issuer is None:
            return await inputs.read_ca_bundle(self._ca)
        self.issued = found = await self.issuer.issue(observed, proved, retry_seconds=self._retry_seconds)
        self._report.issued(found)
        return found.bundle
