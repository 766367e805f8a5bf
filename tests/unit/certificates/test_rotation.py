"""Every turn of the rotation: when it is due and why, what it leaves; and from any damage back to a good state."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.certificates.authority import Certificate, Pair, fits, issue_authority, issue_serving, read, signed
from reconciler.certificates.rotation import (
    Action,
    Authorities,
    Facts,
    Phase,
    Policy,
    Proved,
    Serving,
    Standing,
    Step,
    advance,
    bundle,
    next_step,
    requested,
)
from reconciler.controller import trust

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3600.0
DAY = 24 * HOUR
NAMES = ("a.garden.svc", "127.0.0.1")
POLICY = Policy(NAMES, 360 * DAY, 30 * DAY, overlap_seconds=DAY, propagation_seconds=120.0)
OVERLAP, PROPAGATION = POLICY.overlap_seconds, POLICY.propagation_seconds

# Three moments: a day on which nothing is due, and how a rotation goes on from it.
NOW = 1_800_000_000.0
STABLE_SINCE = NOW - 5 * DAY
TRUSTING_SINCE = NOW + 235 * DAY
SERVING_SINCE = TRUSTING_SINCE + 200

OLD = issue_authority(now=STABLE_SINCE, lifetime_seconds=360 * DAY)
NEW = issue_authority(now=TRUSTING_SINCE, lifetime_seconds=360 * DAY)
STRANGER = issue_authority(now=STABLE_SINCE, lifetime_seconds=360 * DAY)
EXPIRED = issue_authority(now=NOW - 400 * DAY, lifetime_seconds=360 * DAY)


def leaf(authority: Pair, now: float, *, names: tuple[str, ...] = NAMES, life: float = 30 * DAY) -> Pair:
    return issue_serving(authority, names=names, now=now, lifetime_seconds=life)


def serving(pair: Pair, *authorities: Pair) -> Serving:
    return Serving(pair.certificate, pair.key, b"".join(one.certificate for one in authorities))


def certificates(*pairs: Pair) -> tuple[Certificate, ...]:
    return tuple(one for pair in pairs for one in read(pair.certificate))


STABLE_LEAF = leaf(OLD, STABLE_SINCE)
TRUSTING_LEAF = leaf(OLD, TRUSTING_SINCE - 5 * DAY)
SERVING_LEAF = leaf(NEW, SERVING_SINCE)

STABLE = Standing(Authorities(OLD.certificate, OLD.key, STABLE_SINCE), serving(STABLE_LEAF, OLD))
TRUSTING = Standing(Authorities(OLD.certificate, OLD.key, TRUSTING_SINCE, next=NEW), serving(TRUSTING_LEAF, OLD, NEW))
# Where the writer died between the turn and the leaf that follows it.
TURNED = Standing(
    Authorities(NEW.certificate, NEW.key, SERVING_SINCE, retiring=OLD.certificate), serving(TRUSTING_LEAF, OLD, NEW)
)
SERVED = replace(TURNED, serving=serving(SERVING_LEAF, OLD, NEW))


def fingerprint(pair: Pair) -> str:
    return read(pair.certificate)[0].fingerprint


def changed(standing: Standing, **fields: object) -> Standing:
    """Return `standing` with other fields of the authorities."""
    assert standing.authorities is not None
    return replace(standing, authorities=dataclasses.replace(standing.authorities, **fields))  # type: ignore[arg-type]


def step(standing: Standing, now: float, *known: Pair, proved: Proved | None = None, policy: Policy = POLICY) -> Step:
    return next_step(standing, Facts(now, certificates(*known), proved), policy)


# When a step is due, and what an operator reads of it.


@pytest.mark.parametrize(
    ("standing", "now", "action", "reason"),
    [
        (Standing(), NOW, Action.ISSUE_AUTHORITY, "no authority that is valid now"),
        (changed(STABLE, signer=EXPIRED.certificate), NOW, Action.ISSUE_AUTHORITY, "no authority that is valid now"),
        (changed(STABLE, signer=STABLE_LEAF.certificate), NOW, Action.ISSUE_AUTHORITY, "no authority that is valid"),
        (STABLE, STABLE_SINCE - HOUR - 1, Action.ISSUE_AUTHORITY, "no authority that is valid now"),
        (STABLE, NOW, Action.NONE, "stable"),
        (changed(STABLE, since=0.0), NOW, Action.STAMP, "its waits begin anew"),
        (changed(STABLE, since=-1.0), NOW, Action.STAMP, "its waits begin anew"),
        (changed(STABLE, since=NOW + 300), NOW, Action.NONE, "stable"),
        (changed(STABLE, since=NOW + 301), NOW, Action.STAMP, "unreadable or lies ahead"),
        (changed(STABLE, key=b""), NOW, Action.ISSUE_NEXT, "the authority's key is missing or does not fit"),
        (changed(STABLE, key=NEW.key), NOW, Action.ISSUE_NEXT, "the authority's key is missing or does not fit"),
        (requested(STABLE), NOW, Action.ISSUE_NEXT, "a rotation was asked for"),
        (STABLE, STABLE_SINCE + 20 * DAY - 1, Action.NONE, "stable"),
        (STABLE, STABLE_SINCE + 20 * DAY, Action.ISSUE_LEAF, "two thirds of the serving certificate's life are over"),
        (STABLE, STABLE_SINCE + 30 * DAY, Action.ISSUE_LEAF, "the serving certificate is not valid now"),
        (STABLE, STABLE_SINCE + 240 * DAY - 1, Action.ISSUE_LEAF, "the serving certificate is not valid now"),
        (STABLE, STABLE_SINCE + 240 * DAY, Action.ISSUE_NEXT, "two thirds of the authority's life are over"),
        (replace(STABLE, serving=Serving()), NOW, Action.ISSUE_LEAF, "no serving certificate with a key that fits"),
        (replace(STABLE, serving=serving(STABLE_LEAF)), NOW, Action.WRITE_BUNDLE, "ca.crt is not what is to be"),
    ],
    ids=[
        "nothing", "expired", "no-authority", "clock-before-all", "good", "since-0", "since-before-1970",
        "since-skewed", "since-ahead", "key-gone", "key-of-another", "asked", "leaf-young", "leaf-two-thirds",
        "leaf-expired", "authority-young", "authority-two-thirds", "no-leaf", "no-bundle",
    ],
)  # fmt: skip
def test_what_is_due_while_stable(standing: Standing, now: float, action: Action, reason: str) -> None:
    found = step(standing, now, OLD)
    assert found.action is action
    assert reason in found.reason


@pytest.mark.parametrize(
    ("pair", "policy", "reason"),
    [
        (leaf(OLD, NOW, names=("a.garden.svc",)), POLICY, "the serving certificate lacks 127.0.0.1"),
        (STABLE_LEAF, replace(POLICY, names=("c", *NAMES, "b")), "the serving certificate lacks b, c"),
        (STABLE_LEAF, replace(POLICY, names=NAMES[1:]), ""),
        (leaf(STRANGER, NOW), POLICY, "the serving certificate is another authority's"),
        (Pair(STABLE_LEAF.certificate, OLD.key), POLICY, "no serving certificate with a key that fits"),
        (leaf(OLD, NOW + HOUR + 1), POLICY, "the serving certificate is not valid now"),
    ],
    ids=["name-gone", "names-added", "name-too-many", "stranger", "key", "from-the-future"],
)
def test_a_leaf_that_does_not_do_is_issued_again(pair: Pair, policy: Policy, reason: str) -> None:
    found = step(replace(STABLE, serving=serving(pair, OLD)), NOW, OLD, policy=policy)
    assert (found.action, found.reason) == ((Action.ISSUE_LEAF, reason) if reason else (Action.NONE, "stable"))


IN_TIME = Proved(TRUSTING_SINCE + PROPAGATION)


@pytest.mark.parametrize(
    ("known", "after", "proved", "action", "reason"),
    [
        ((OLD, NEW), PROPAGATION, IN_TIME, Action.SERVE_WITH_NEXT, "both authorities are trusted: proved"),
        ((OLD, NEW), 10 * HOUR, IN_TIME, Action.SERVE_WITH_NEXT, "both authorities are trusted: proved"),
        ((NEW,), PROPAGATION, IN_TIME, Action.SERVE_WITH_NEXT, "proved"),
        ((OLD, NEW), PROPAGATION, Proved(TRUSTING_SINCE + PROPAGATION - 1), Action.NONE, "trusting"),
        ((OLD, NEW), 10 * HOUR, Proved(TRUSTING_SINCE - 1), Action.NONE, "trusting"),
        ((OLD,), PROPAGATION, IN_TIME, Action.NONE, "trusting"),
        ((), PROPAGATION, IN_TIME, Action.NONE, "trusting"),
        ((OLD, NEW), OVERLAP - 1, None, Action.NONE, "trusting"),
        ((OLD, NEW), OVERLAP, None, Action.SERVE_WITH_NEXT, "trusted for the whole overlap, without a proof"),
        ((OLD,), OVERLAP, None, Action.NONE, "trusting"),
        ((OLD,), 5 * DAY, IN_TIME, Action.NONE, "trusting"),
    ],
    ids=[
        "proved", "proved-long-ago", "old-not-registered", "proof-early", "proof-before", "next-not-registered",
        "nothing-registered", "almost-overlap", "overlap", "overlap-unregistered", "never-unregistered",
    ],
)  # fmt: skip
def test_when_the_next_authority_serves(
    known: tuple[Pair, ...], after: float, proved: Proved | None, action: Action, reason: str
) -> None:
    found = step(TRUSTING, TRUSTING_SINCE + after, *known, proved=proved)
    assert found.action is action
    assert reason in found.reason


@pytest.mark.parametrize(
    "coming",
    [
        Pair(b"garbage", NEW.key),
        Pair(NEW.certificate, b""),
        Pair(NEW.certificate, OLD.key),
        Pair(b"", NEW.key),
        EXPIRED,
    ],
    ids=["garbage", "no-key", "another-key", "no-certificate", "expired"],
)
def test_a_next_authority_that_can_never_serve_is_issued_again(coming: Pair) -> None:
    found = step(changed(TRUSTING, next=coming), TRUSTING_SINCE + 1, OLD, NEW)
    assert found.action is Action.ISSUE_NEXT
    assert "unreadable, expired, or its key does not fit" in found.reason


def test_a_leaf_is_renewed_by_the_old_authority_while_the_next_is_not_trusted() -> None:
    found = step(replace(TRUSTING, serving=Serving()), TRUSTING_SINCE + 1, OLD)
    assert found.action is Action.ISSUE_LEAF


def test_where_only_the_next_can_sign_and_nothing_serves_it_does_at_once() -> None:
    damaged = replace(changed(TRUSTING, key=b""), serving=Serving())
    found = step(damaged, TRUSTING_SINCE + 1, OLD)
    assert found.action is Action.SERVE_WITH_NEXT
    assert "no serving certificate with a key that fits, and only the next authority can sign" in found.reason


def test_where_only_the_next_can_sign_what_serves_may_go_on_serving() -> None:
    assert step(changed(TRUSTING, key=b""), TRUSTING_SINCE + 1, OLD).action is Action.NONE


STORED = read(SERVING_LEAF.certificate)[0].not_before + HOUR
MET = Proved(STORED + PROPAGATION, fingerprint(SERVING_LEAF))


@pytest.mark.parametrize(
    ("standing", "after", "proved", "action", "reason"),
    [
        (TURNED, 0, None, Action.ISSUE_LEAF, "the serving certificate is another authority's"),
        (SERVED, PROPAGATION, MET, Action.NONE, "serving"),
        (SERVED, OVERLAP - 1, MET, Action.NONE, "serving"),
        (SERVED, OVERLAP, MET, Action.RETIRE, "the new authority serves, proved, and the overlap is over"),
        (SERVED, OVERLAP, None, Action.NONE, "serving"),
        (SERVED, 15 * DAY, None, Action.NONE, "serving"),
        (SERVED, OVERLAP, replace(MET, began=MET.began - 1), Action.NONE, "serving"),
        (SERVED, OVERLAP, replace(MET, fingerprint=fingerprint(TRUSTING_LEAF)), Action.NONE, "serving"),
        (SERVED, OVERLAP, replace(MET, fingerprint=""), Action.NONE, "serving"),
        (TURNED, OVERLAP, MET, Action.ISSUE_LEAF, "the serving certificate is another authority's"),
        (requested(SERVED), PROPAGATION, MET, Action.NONE, "serving"),
        (changed(SERVED, key=b""), PROPAGATION, MET, Action.ISSUE_NEXT, "the authority's key is missing"),
    ],
    ids=[
        "leaf-first", "too-soon", "almost", "over", "no-proof", "never-without", "proof-early", "met-the-old",
        "met-another-server", "leaf-is-old", "asked-again-waits", "key-gone",
    ],
)  # fmt: skip
def test_when_the_old_authority_retires(
    standing: Standing, after: float, proved: Proved | None, action: Action, reason: str
) -> None:
    found = step(standing, SERVING_SINCE + after, OLD, NEW, proved=proved)
    assert found.action is action
    assert reason in found.reason


def test_an_old_authority_that_is_expired_retires_without_proof() -> None:
    end = read(OLD.certificate)[0].not_after
    renewed = replace(SERVED, serving=serving(leaf(NEW, end - DAY), OLD, NEW))
    assert step(renewed, end - 1, OLD, NEW).action is Action.NONE
    found = step(renewed, end, OLD, NEW)
    assert (found.action, found.reason) == (Action.RETIRE, "the old authority is expired")


def test_the_overlap_is_never_shorter_than_the_propagation() -> None:
    hurried = replace(POLICY, overlap_seconds=1.0)
    assert hurried.overlap == PROPAGATION
    for after, action in ((PROPAGATION - 1, Action.NONE), (PROPAGATION, Action.SERVE_WITH_NEXT)):
        assert step(TRUSTING, TRUSTING_SINCE + after, OLD, NEW, policy=hurried).action is action
    for after, action in ((PROPAGATION - 1, Action.NONE), (PROPAGATION, Action.RETIRE)):
        assert step(SERVED, SERVING_SINCE + after, OLD, NEW, proved=MET, policy=hurried).action is action


# When it is looked at again.


@pytest.mark.parametrize(
    ("standing", "now", "due"),
    [
        (changed(STABLE, since=NOW), NOW, NOW + PROPAGATION),
        (changed(STABLE, since=NOW), NOW + PROPAGATION, NOW + OVERLAP),
        (STABLE, NOW, STABLE_SINCE + 20 * DAY),
        (replace(STABLE, serving=serving(leaf(OLD, NOW + 234 * DAY), OLD)), NOW + 234 * DAY, NOW + 235 * DAY),
        (TRUSTING, TRUSTING_SINCE, TRUSTING_SINCE + PROPAGATION),
        (TRUSTING, TRUSTING_SINCE + PROPAGATION, TRUSTING_SINCE + OVERLAP),
        (SERVED, SERVING_SINCE, SERVING_SINCE + PROPAGATION),
        (SERVED, SERVING_SINCE + PROPAGATION, SERVING_SINCE + OVERLAP),
        (changed(SERVED, since=SERVING_SINCE - 5 * DAY), SERVING_SINCE + 1, SERVING_SINCE + OVERLAP),
        (SERVED, SERVING_SINCE + OVERLAP, SERVING_SINCE + 20 * DAY),
        (
            replace(SERVED, serving=serving(leaf(NEW, SERVING_SINCE + 115 * DAY), OLD, NEW)),
            SERVING_SINCE + 117 * DAY,
            read(OLD.certificate)[0].not_after,
        ),
    ],
    ids=[
        "propagation", "overlap", "leaf", "authority", "trusting", "trusting-unproved", "serving", "serving-overlap",
        "leaf-was-stored-later", "serving-unproved", "old-expires",
    ],
)  # fmt: skip
def test_it_is_looked_at_again_when_time_alone_may_change_something(standing: Standing, now: float, due: float) -> None:
    found = step(standing, now)
    assert found.action is Action.NONE
    assert found.due == due


NOTHING, BOTH = (), (OLD, NEW)
STANDINGS = st.sampled_from([(STABLE, NOW), (TRUSTING, TRUSTING_SINCE), (SERVED, SERVING_SINCE)])


@given(
    STANDINGS, st.floats(0, 10 * DAY), st.floats(0, 1, exclude_max=True), st.sampled_from([NOTHING, (OLD,), BOTH]),
    st.sampled_from([None, IN_TIME, MET]),
)  # fmt: skip
def test_nothing_is_due_before_it_is_due(
    at: tuple[Standing, float], later: float, fraction: float, known: tuple[Pair, ...], proved: Proved | None
) -> None:
    """Whoever sleeps until `due` misses nothing, as long as only time passes."""
    standing, now = at[0], at[1] + later
    found = step(standing, now, *known, proved=proved)
    if found.action is Action.NONE:
        assert now < found.due <= now + 25 * DAY
        between = now + fraction * (found.due - now)
        assert step(standing, between, *known, proved=proved).action is Action.NONE


# What a step leaves.


def after(action: Action, standing: Standing, now: float, *known: Pair) -> Standing:
    return advance(Step(action, ""), standing, Facts(now, certificates(*known)), POLICY)


def test_the_first_authority_signs_and_stands_alone() -> None:
    found = after(Action.ISSUE_AUTHORITY, Standing(), NOW).authorities
    assert found is not None
    assert (found.phase, found.since, found.retiring, found.requested) == (Phase.STABLE, NOW, b"", False)
    (signer,) = read(found.signer)
    assert (signer.not_before, signer.not_after, fits(signer, found.key)) == (NOW - HOUR, NOW + 360 * DAY, True)


def test_a_next_authority_is_only_trusted_at_first() -> None:
    found = after(Action.ISSUE_NEXT, requested(STABLE), NOW)
    held = found.authorities
    assert held is not None
    assert held.next is not None
    assert (held.phase, held.since, held.requested) == (Phase.TRUSTING, NOW, False)
    assert (held.signer, held.key, found.serving) == (OLD.certificate, OLD.key, STABLE.serving)
    assert bundle(held, NOW) == OLD.certificate + held.next.certificate


def test_the_turn_to_serving_changes_nothing_that_is_trusted() -> None:
    found = after(Action.SERVE_WITH_NEXT, TRUSTING, TRUSTING_SINCE + 300).authorities
    assert found == Authorities(NEW.certificate, NEW.key, TRUSTING_SINCE + 300, retiring=OLD.certificate)
    assert TRUSTING.authorities is not None
    assert bundle(found, NOW) == bundle(TRUSTING.authorities, NOW) == OLD.certificate + NEW.certificate


def test_an_authority_that_is_retiring_still_is_kept_by_the_next_turn() -> None:
    """A key was lost in the middle of a rotation: three are trusted."""
    third = after(Action.ISSUE_NEXT, changed(SERVED, key=b""), SERVING_SINCE + 1)
    turned = after(Action.SERVE_WITH_NEXT, third, SERVING_SINCE + 2).authorities
    assert turned is not None
    assert turned.retiring == NEW.certificate + OLD.certificate
    assert bundle(turned, SERVING_SINCE + 2) == OLD.certificate + NEW.certificate + turned.signer


def test_retiring_leaves_the_new_authority_alone() -> None:
    found = after(Action.RETIRE, SERVED, SERVING_SINCE + OVERLAP).authorities
    assert found == Authorities(NEW.certificate, NEW.key, SERVING_SINCE + OVERLAP)
    assert bundle(found, SERVING_SINCE + OVERLAP) == NEW.certificate


def test_a_stamp_changes_the_time_alone() -> None:
    assert after(Action.STAMP, TRUSTING, NOW) == changed(TRUSTING, since=NOW)


def test_a_new_leaf_comes_with_what_is_to_be_trusted() -> None:
    found = after(Action.ISSUE_LEAF, TURNED, SERVING_SINCE + 1)
    (shown,) = read(found.serving.certificate)
    assert found.authorities == TURNED.authorities
    assert found.serving.bundle == OLD.certificate + NEW.certificate
    assert fits(shown, found.serving.key)
    assert signed(shown, read(NEW.certificate)[0])
    assert shown.names == set(NAMES)
    assert shown.not_after == SERVING_SINCE + 1 + 30 * DAY


def test_a_bundle_is_written_without_a_new_leaf() -> None:
    found = after(Action.WRITE_BUNDLE, replace(STABLE, serving=serving(STABLE_LEAF)), NOW)
    assert found == STABLE


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (Authorities(OLD.certificate, b"", NOW), OLD.certificate),
        (Authorities(NEW.certificate, b"", NOW, retiring=OLD.certificate), OLD.certificate + NEW.certificate),
        (Authorities(OLD.certificate, b"", NOW, next=NEW), OLD.certificate + NEW.certificate),
        (Authorities(OLD.certificate, b"", NOW, next=OLD, retiring=OLD.certificate), OLD.certificate),
        (Authorities(OLD.certificate, b"", NOW, retiring=EXPIRED.certificate), OLD.certificate),
        (Authorities(OLD.certificate, b"", NOW, retiring=b"garbage", next=Pair(b"garbage", b"")), OLD.certificate),
    ],
    ids=["one", "retiring", "next", "each-once", "expired", "garbage"],
)
def test_what_is_trusted(held: Authorities, expected: bytes) -> None:
    assert bundle(held, NOW) == expected


def test_a_wish_without_an_authority_is_no_wish() -> None:
    assert requested(Standing()) == Standing()


@pytest.mark.parametrize(
    ("held", "stored", "known", "trusted"),
    [
        (None, (), (), ()),
        (None, (OLD,), (), (OLD,)),
        (None, (), (OLD,), (OLD,)),
        (None, (OLD, NEW), (NEW,), (OLD, NEW)),
        (None, (EXPIRED,), (EXPIRED,), ()),
        (None, (STABLE_LEAF,), (TRUSTING_LEAF,), ()),
        (Authorities(EXPIRED.certificate, EXPIRED.key, NOW, retiring=OLD.certificate), (), (), (OLD,)),
    ],
    ids=["nothing", "from-the-secret", "from-the-caBundle", "each-once", "expired", "no-authorities", "retiring"],
)
def test_an_authority_that_is_lost_stays_trusted_while_a_new_one_takes_over(
    held: Authorities | None, stored: tuple[Pair, ...], known: tuple[Pair, ...], trusted: tuple[Pair, ...]
) -> None:
    now = TRUSTING_SINCE
    lost = Standing(held, serving(TRUSTING_LEAF, *stored))
    found = after(Action.ISSUE_AUTHORITY, lost, now, *known).authorities
    assert found is not None
    if not trusted:
        assert (found.phase, bundle(found, now)) == (Phase.STABLE, found.signer)
        return
    assert (found.phase, found.key) == (Phase.TRUSTING, b"")
    assert found.next is not None
    assert found.signer == b"".join(one.certificate for one in trusted)
    assert set(read(bundle(found, now))) == {*certificates(*trusted), *read(found.next.certificate)}


# From any damage back to a good state.

Damage: TypeAlias = "Callable[[Standing], Standing]"


def at_serving(**fields: bytes) -> Damage:
    return lambda standing: replace(standing, serving=dataclasses.replace(standing.serving, **fields))


def at_authority(**fields: object) -> Damage:
    return lambda standing: standing if standing.authorities is None else changed(standing, **fields)


def at_next(**fields: bytes) -> Damage:
    """Damage the next authority; without effect where there is none."""

    def damage(standing: Standing) -> Standing:
        held = standing.authorities
        if held is None or held.next is None:
            return standing
        return changed(standing, next=dataclasses.replace(held.next, **fields))

    return damage


def expired_leaf(standing: Standing) -> Standing:
    return replace(standing, serving=serving(leaf(OLD, STABLE_SINCE, life=DAY), OLD))


DAMAGES: dict[str, Damage] = {
    "serving-gone": lambda standing: replace(standing, serving=Serving()),
    "leaf-garbage": at_serving(certificate=b"garbage"),
    "leaf-key-gone": at_serving(key=b""),
    "leaf-key-of-another": at_serving(key=STRANGER.key),
    "leaf-of-a-stranger": lambda standing: replace(standing, serving=serving(leaf(STRANGER, NOW), OLD)),
    "leaf-expired": expired_leaf,
    "bundle-gone": at_serving(bundle=b""),
    "bundle-garbage": at_serving(bundle=b"garbage"),
    "authority-gone": lambda standing: replace(standing, authorities=None),
    "authority-garbage": at_authority(signer=b"garbage"),
    "authority-expired": at_authority(signer=EXPIRED.certificate, key=EXPIRED.key),
    "authority-is-a-leaf": at_authority(signer=STABLE_LEAF.certificate),
    "authority-key-gone": at_authority(key=b""),
    "authority-key-garbage": at_authority(key=b"garbage"),
    "authority-key-of-another": at_authority(key=STRANGER.key),
    "next-garbage": at_next(certificate=b"garbage"),
    "next-gone": at_next(certificate=b""),
    "next-key-gone": at_next(key=b""),
    "next-expired": at_next(certificate=EXPIRED.certificate, key=EXPIRED.key),
    "since-zero": at_authority(since=0.0),
    "since-ahead": at_authority(since=NOW + 9000 * DAY),
    "asked": requested,
}
RETIRING: dict[str, Damage] = {
    "retiring-garbage": lambda standing: (
        at_authority(retiring=b"garbage")(standing) if is_serving(standing) else standing
    ),
    "retiring-expired": lambda standing: (
        at_authority(retiring=EXPIRED.certificate)(standing) if is_serving(standing) else standing
    ),
}


def is_serving(standing: Standing) -> bool:
    return standing.authorities is not None and standing.authorities.phase is Phase.SERVING


@dataclass(frozen=True)
class Scene:
    """An undamaged state, and the moment at which damage is found: long after the waits of its phase began."""

    standing: Standing
    now: float

    @property
    def facts(self) -> dict[str, Facts]:
        """What may be known: all that lets a rotation go on, the caBundle alone, or nothing."""
        shown = read(self.standing.serving.certificate)[0]
        assert self.standing.authorities is not None
        trusted = read(bundle(self.standing.authorities, self.now))
        return {
            "proved": Facts(self.now, trusted, Proved(self.now, shown.fingerprint)),
            "registered": Facts(self.now, trusted),
            "nothing": Facts(self.now),
        }


SCENES = {
    "stable": Scene(STABLE, NOW),
    "trusting": Scene(TRUSTING, TRUSTING_SINCE + 60),
    "trusted": Scene(TRUSTING, TRUSTING_SINCE + 2 * OVERLAP),
    "turned": Scene(TURNED, SERVING_SINCE + 60),
    "serving": Scene(SERVED, SERVING_SINCE + 60),
    "served": Scene(SERVED, SERVING_SINCE + 2 * OVERLAP),
}
KNOWN = ["proved", "registered", "nothing"]


def settle(standing: Standing, facts: Facts, policy: Policy = POLICY) -> list[Standing]:
    """Return every state on the way to the one in which nothing is due, as a pass goes it; it is the last."""
    states = [standing]
    for _ in range(trust._MOST_STEPS):
        due = next_step(states[-1], facts, policy)
        if due.action is Action.NONE:
            assert due.due > facts.now
            return states
        states.append(advance(due, states[-1], facts, policy))
    pytest.fail(f"not settled: {next_step(states[-1], facts, policy)}")


def is_good(standing: Standing, now: float) -> bool:
    """Return whether the leaf is valid, has its key, and is believed by those who trust the bundle of the Secret."""
    held, shown = standing.authorities, standing.serving
    leaves = read(shown.certificate)
    if held is None or not leaves or not leaves[0].is_valid_at(now) or not fits(leaves[0], shown.key):
        return False
    return shown.bundle == bundle(held, now) and any(signed(leaves[0], one) for one in read(shown.bundle))


def keeps_what_is_shown(scene: Scene, states: list[Standing]) -> bool:
    """Return whether the authority of what the servers still show is trusted in every state."""
    shown = read(scene.standing.serving.certificate)[0]
    return all(
        any(signed(shown, one) for one in read(bundle(state.authorities, scene.now)))
        for state in states
        if state.authorities is not None and state is not states[0]
    )


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("scene", SCENES)
def test_damage_is_mended_within_one_pass(scene: str, known: str) -> None:
    found = SCENES[scene]
    for name, damage in {**DAMAGES, **RETIRING}.items():
        states = settle(damage(found.standing), found.facts[known])
        assert is_good(states[-1], found.now), name
        assert len(states) - 1 <= 5, f"{name}: the longest way, as trust.py says"


@pytest.mark.parametrize("known", ["proved", "registered"])
@pytest.mark.parametrize("scene", SCENES)
def test_what_is_still_shown_stays_trusted_whatever_is_damaged(scene: str, known: str) -> None:
    found = SCENES[scene]
    for name, damage in DAMAGES.items():
        assert keeps_what_is_shown(found, settle(damage(found.standing), found.facts[known])), name


@given(
    st.sampled_from(list(SCENES.values())),
    st.sampled_from(KNOWN),
    st.lists(st.sampled_from([*DAMAGES.values(), *RETIRING.values()]), min_size=2, max_size=5),
)
def test_damage_upon_damage_is_mended_within_one_pass(scene: Scene, known: str, damages: list[Damage]) -> None:
    standing = scene.standing
    for damage in damages:
        standing = damage(standing)
    states = settle(standing, scene.facts[known])
    assert is_good(states[-1], scene.now)
    # Where nothing is registered and both Secrets are gone, nobody knows any more what was trusted.
    assert known == "nothing" or set(damages) & set(RETIRING.values()) or keeps_what_is_shown(scene, states)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("slept", [31 * DAY, 130 * DAY, 361 * DAY, 4000 * DAY], ids=lambda found: f"{found / DAY:g}d")
@pytest.mark.parametrize("scene", SCENES)
def test_after_any_sleep_one_pass_makes_it_good(scene: str, slept: float, known: str) -> None:
    """Leaf, old authority, both, and the next one, too, expire meanwhile."""
    found = SCENES[scene]
    facts = replace(found.facts[known], now=found.now + slept)
    assert is_good(settle(found.standing, facts)[-1], facts.now)


def test_a_retiring_authority_that_is_unreadable_is_taken_from_what_is_trusted() -> None:
    """Killed right after the turn, the servers still show the old authority's leaf."""
    scene = SCENES["turned"]
    damaged = RETIRING["retiring-garbage"](scene.standing)
    assert step(damaged, scene.now, OLD, NEW).action is Action.RESTORE
    assert keeps_what_is_shown(scene, settle(damaged, scene.facts["registered"]))


@pytest.mark.parametrize("name", ["2001:DB8::7", "2001:db8:0:0:0:0:0:7", "fe80::1%eth0"])
def test_an_address_may_be_written_in_any_form(name: str) -> None:
    policy = replace(POLICY, names=(*NAMES, name))
    settle(STABLE, Facts(NOW), policy)


def test_in_the_last_second_of_an_authority_a_pass_settles() -> None:
    end = read(OLD.certificate)[0].not_after
    policy = replace(POLICY, overlap_seconds=400 * DAY)
    for moment in (end - 4.0, end - 0.25, end + 0.25):
        settle(TRUSTING, Facts(moment), policy)


@pytest.mark.parametrize(
    ("ahead", "action"), [(0.0, Action.NONE), (200.0, Action.NONE), (HOUR, Action.SERVE_WITH_NEXT)]
)
def test_a_registration_of_the_future_is_not_waited_for(ahead: float, action: Action) -> None:
    now = TRUSTING_SINCE + HOUR
    facts = Facts(now, certificates(OLD, NEW), Proved(now), registered_since=now + ahead)
    assert next_step(TRUSTING, facts, POLICY).action is action
