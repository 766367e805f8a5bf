"""Rotation without a gap, as a pure state machine: what stands, what is known, and the clock give the next step.

A new authority is trusted before anything is served with it, and an old one is trusted until nothing is:

    stable --issue next--> trusting --serve with next--> serving --retire--> stable

The caBundle is the sum of all authorities that are held. Everything is kept in the two Secrets, so that whoever comes
next, after a kill at any point, goes on from there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.certificates.authority import (
    BACKDATED_SECONDS,
    Certificate,
    Pair,
    canonical,
    fits,
    issue_authority,
    issue_serving,
    read,
    signed,
)

_RENEWED_AT: Final = 2 / 3  # of its life
# A `since` further ahead of the clock than this was written by a clock that was wrong.
_CLOCK_SKEW_SECONDS: Final = 300.0
# An authority that ends sooner signs no more: its leaf, whose times are whole seconds, would be due at once.
_LEAST_LEFT_SECONDS: Final = 5.0


class Phase(StrEnum):
    """Where the rotation stands."""

    STABLE = "stable"
    TRUSTING = "trusting"
    SERVING = "serving"


class Action(StrEnum):
    """The next step, each of which is one write."""

    NONE = "none"
    ISSUE_AUTHORITY = "issue-authority"
    ISSUE_NEXT = "issue-next"
    SERVE_WITH_NEXT = "serve-with-next"
    RETIRE = "retire"
    RESTORE = "restore"
    STAMP = "stamp"
    ISSUE_LEAF = "issue-leaf"
    WRITE_BUNDLE = "write-bundle"


@dataclass(frozen=True, slots=True)
class Authorities:
    """What the authority's Secret holds, PEM. An empty `key` means: trusted, but it can sign no more."""

    signer: bytes
    key: bytes
    since: float
    next: Pair | None = None
    retiring: bytes = b""
    requested: bool = False  # somebody asked for a rotation before it is due

    @property
    def phase(self) -> Phase:
        """Where the rotation stands."""
        if self.next is not None:
            return Phase.TRUSTING
        return Phase.SERVING if self.retiring else Phase.STABLE


@dataclass(frozen=True, slots=True)
class Serving:
    """What the serving Secret holds, PEM; each is empty where the Secret lacks it."""

    certificate: bytes = b""
    key: bytes = b""
    bundle: bytes = b""


@dataclass(frozen=True, slots=True)
class Standing:
    """Both Secrets; None: there is no such Secret, or nothing in it can be read."""

    authorities: Authorities | None = None
    serving: Serving = Serving()


@dataclass(frozen=True, slots=True)
class Proved:
    """A pod was mutated through the API server: when that proof began, and the serving certificate that it met."""

    began: float
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The clock, the certificates in the caBundle that stands, and the last proof since it was last written.

    `now` is the API server's time where this machine's clock differs; `ahead_seconds` is how far ours is ahead then.

    `registered_since` is when the registration was last written: an API server may not have seen it before.
    """

    now: float
    registered: tuple[Certificate, ...] = ()
    proved: Proved | None = None
    registered_since: float = 0.0
    ahead_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator chooses; seconds. `propagation` is what a Secret takes to reach every server."""

    names: tuple[str, ...]
    authority_lifetime_seconds: float
    serving_lifetime_seconds: float
    overlap_seconds: float
    propagation_seconds: float

    @property
    def overlap(self) -> float:
        """How long both authorities are trusted, once the new one serves."""
        return max(self.overlap_seconds, self.propagation_seconds)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, why, and, where that is nothing, when to look again (seconds since the epoch)."""

    action: Action
    reason: str
    due: float = 0.0


def next_step(standing: Standing, facts: Facts, policy: Policy) -> Step:
    """Return the step that is due now."""
    held = standing.authorities
    if held is None or not _valid(read(held.signer), facts.now):
        return Step(Action.ISSUE_AUTHORITY, "no authority that is valid now")
    if not 0 < held.since <= facts.now + _CLOCK_SKEW_SECONDS:
        return Step(Action.STAMP, "since when it stands so is unreadable or lies ahead: its waits begin anew")
    trouble, is_unusable = _leaf_trouble(standing, facts, policy)
    can_sign = _can_sign(held, facts.now)
    moved = _turn(held, standing, facts, policy)
    if is_unusable and not can_sign and held.next is not None and moved is None:
        moved = Step(Action.SERVE_WITH_NEXT, f"{trouble}, and only the next authority can sign")
    if moved is not None:
        return moved
    if trouble and can_sign:
        return Step(Action.ISSUE_LEAF, trouble)
    if standing.serving.bundle != bundle(held, facts.now):
        return Step(Action.WRITE_BUNDLE, "ca.crt is not what is to be trusted")
    return Step(Action.NONE, held.phase.value, _due(held, standing, facts, policy))


def advance(step: Step, standing: Standing, facts: Facts, policy: Policy) -> Standing:
    """Return what stands after `step`; certificates are issued here."""
    held, now = standing.authorities, facts.now
    if step.action is Action.ISSUE_AUTHORITY or held is None:
        return replace(standing, authorities=_begun_anew(standing, facts, _fresh(facts, policy)))
    if step.action in (Action.ISSUE_LEAF, Action.WRITE_BUNDLE):
        serving = replace(standing.serving, bundle=bundle(held, now))
        if step.action is Action.ISSUE_LEAF:
            signer = Pair(held.signer, held.key)
            lifetime = policy.serving_lifetime_seconds
            leaf = issue_serving(
                signer,
                names=policy.names,
                now=now,
                lifetime_seconds=lifetime,
                ahead_seconds=facts.ahead_seconds,
            )
            serving = replace(serving, certificate=leaf.certificate, key=leaf.key)
        return replace(standing, serving=serving)
    if step.action is Action.RESTORE:
        return replace(standing, authorities=replace(held, retiring=_pem(_lost(held, standing, facts))))
    return replace(standing, authorities=_turned(step.action, held, facts, policy))


def _turned(action: Action, held: Authorities, facts: Facts, policy: Policy) -> Authorities:
    now = facts.now
    if action is Action.ISSUE_NEXT:
        return replace(held, next=_fresh(facts, policy), since=now, requested=False)
    if action is Action.SERVE_WITH_NEXT and held.next is not None:
        old = _pem(_valid((*read(held.signer), *read(held.retiring)), now))
        return Authorities(held.next.certificate, held.next.key, since=now, retiring=old)
    return replace(held, retiring=b"", since=now) if action is Action.RETIRE else replace(held, since=now)


def _fresh(facts: Facts, policy: Policy) -> Pair:
    lifetime = policy.authority_lifetime_seconds
    return issue_authority(now=facts.now, lifetime_seconds=lifetime, ahead_seconds=facts.ahead_seconds)


def requested(standing: Standing) -> Standing:
    """Return `standing` with the wish for a rotation; without effect where there is no authority yet."""
    held = standing.authorities
    return standing if held is None else replace(standing, authorities=replace(held, requested=True))


def bundle(held: Authorities, now: float) -> bytes:
    """Return what is to be trusted (PEM): every authority that is held and not expired, each once, the oldest first."""
    parts = (held.signer, b"" if held.next is None else held.next.certificate, held.retiring)
    trusted = [certificate for part in parts for certificate in read(part) if now < certificate.not_after]
    # An order of its own: a turn from one phase to the next that trusts the same is no change.
    return _pem(sorted(trusted, key=lambda one: (one.not_before, one.der)))


def _turn(held: Authorities, standing: Standing, facts: Facts, policy: Policy) -> Step | None:
    """Return the step from one phase to the next; None where none is due."""
    now = facts.now
    if held.next is not None:
        return _turn_to_serving(held, held.next, facts, policy)
    if not _can_sign(held, now):
        return Step(Action.ISSUE_NEXT, "the authority's key is missing or does not fit")
    if held.retiring:
        return _turn_to_stable(held, standing, facts, policy)
    if held.requested:
        return Step(Action.ISSUE_NEXT, "a rotation was asked for")
    if now >= _renewal(read(held.signer)[0]):
        return Step(Action.ISSUE_NEXT, "two thirds of the authority's life are over")
    return None


def _turn_to_serving(held: Authorities, coming: Pair, facts: Facts, policy: Policy) -> Step | None:
    certificates = _valid(read(coming.certificate), facts.now)
    if not certificates or not fits(certificates[0], coming.key):
        return Step(Action.ISSUE_NEXT, "the next authority is unreadable, expired, or its key does not fit")
    if certificates[0].der not in {one.der for one in facts.registered}:
        return None
    # Whoever issued it may have died before it was registered: the wait begins with the later of the two.
    registered = _trusted_since(held, facts)
    if facts.proved is not None and facts.proved.began >= registered + policy.propagation_seconds:
        return Step(Action.SERVE_WITH_NEXT, "both authorities are trusted: proved")
    # The proof may be out of reach for reasons that are not ours: time stands in for it, long before anything expires.
    if facts.now >= registered + policy.overlap:
        return Step(Action.SERVE_WITH_NEXT, "both authorities have been trusted for the whole overlap, without a proof")
    return None


def _trusted_since(held: Authorities, facts: Facts) -> float:
    """Return when the authorities were issued and registered; a time that lies ahead is a wrong clock's."""
    is_believed = facts.registered_since <= facts.now + _CLOCK_SKEW_SECONDS
    return max(held.since, facts.registered_since) if is_believed else held.since


def _turn_to_stable(held: Authorities, standing: Standing, facts: Facts, policy: Policy) -> Step | None:
    if not (old := read(held.retiring)) and _lost(held, standing, facts):
        return Step(Action.RESTORE, "the old authority is unreadable: it is taken from what is trusted")
    if not _valid(old, facts.now):
        return Step(Action.RETIRE, "the old authority is expired" if old else "the old authority is unreadable")
    leaf = next(iter(read(standing.serving.certificate)), None)
    if leaf is None or not _is_signed_by(leaf, held.signer) or facts.proved is None:
        return None
    # A leaf that was issued by a clock that is behind begins sooner than it was stored.
    stored = max(leaf.not_before + BACKDATED_SECONDS, held.since)
    in_use = facts.proved.fingerprint == leaf.fingerprint and facts.proved.began >= stored + policy.propagation_seconds
    if in_use and facts.now >= stored + policy.overlap:
        return Step(Action.RETIRE, "the new authority serves, proved, and the overlap is over")
    return None


def _leaf_trouble(standing: Standing, facts: Facts, policy: Policy) -> tuple[str, bool]:
    """Return why a new serving certificate is needed (empty: it is not), and whether the present one is of no use."""
    held, serving = standing.authorities, standing.serving
    leaf = next(iter(read(serving.certificate)), None)
    if leaf is None or not fits(leaf, serving.key):
        return "no serving certificate with a key that fits", True
    if not leaf.is_valid_at(facts.now):
        return "the serving certificate is not valid now", True
    if held is not None and not _is_signed_by(leaf, held.signer):
        # While the old authority is trusted the certificate still serves, but a new one is due.
        return "the serving certificate is another authority's", not _is_signed_by(leaf, held.retiring)
    if missing := {canonical(name) for name in policy.names} - leaf.names:
        return f"the serving certificate lacks {', '.join(sorted(missing))}", False
    return ("two thirds of the serving certificate's life are over" if facts.now >= _renewal(leaf) else ""), False


def _begun_anew(standing: Standing, facts: Facts, fresh: Pair) -> Authorities:
    """Return authorities with a new one; what may still be served stays trusted, though nothing can sign with it."""
    held = standing.authorities
    stored = () if held is None else _valid((*read(held.signer), *read(held.retiring)), facts.now)
    trusted = (*stored, *_trusted(standing, facts))
    if not trusted:
        return Authorities(fresh.certificate, fresh.key, since=facts.now)
    return Authorities(_pem(trusted), b"", since=facts.now, next=fresh)


def _lost(held: Authorities, standing: Standing, facts: Facts) -> tuple[Certificate, ...]:
    """Return the authorities that are trusted outside the authority's Secret, and are not the one that signs."""
    signers = {one.der for one in read(held.signer)}
    return tuple(one for one in _trusted(standing, facts) if one.der not in signers)


def _trusted(standing: Standing, facts: Facts) -> tuple[Certificate, ...]:
    """Return the authorities that the server's Secret and the registration tell of."""
    return _valid((*read(standing.serving.bundle), *facts.registered), facts.now)


def _due(held: Authorities, standing: Standing, facts: Facts, policy: Policy) -> float:
    certificates = [certificate for part in (held.signer, held.retiring) for certificate in read(part)]
    leaves = read(standing.serving.certificate)[:1]
    begins = (held.since, _trusted_since(held, facts))
    times = [begin + wait for begin in begins for wait in (policy.propagation_seconds, policy.overlap)]
    times += [_renewal(certificate) for certificate in (*certificates[:1], *leaves)]
    times += [certificate.not_after for certificate in (*certificates, *leaves)]
    times += [leaf.not_before + BACKDATED_SECONDS + policy.overlap for leaf in leaves]
    return min((time for time in times if time > facts.now), default=facts.now + policy.overlap)


def _can_sign(held: Authorities, now: float) -> bool:
    certificates = read(held.signer)
    if not certificates or not certificates[0].is_valid_at(now) or not fits(certificates[0], held.key):
        return False
    return certificates[0].not_after - now >= _LEAST_LEFT_SECONDS


def _is_signed_by(leaf: Certificate, authorities: bytes) -> bool:
    return any(signed(leaf, authority) for authority in read(authorities))


def _renewal(certificate: Certificate) -> float:
    begin = certificate.not_before + BACKDATED_SECONDS
    return begin + _RENEWED_AT * (certificate.not_after - begin)


def _valid(certificates: Iterable[Certificate], now: float) -> tuple[Certificate, ...]:
    return tuple(one for one in certificates if one.is_authority and one.is_valid_at(now))


def _pem(certificates: Iterable[Certificate]) -> bytes:
    return b"".join({certificate.der: certificate.pem for certificate in certificates}.values())
