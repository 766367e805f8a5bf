"""The API server's clock, from the Date headers of its answers, and what is issued by it."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from reconciler.certificates.authority import issue_authority, issue_serving, read
from reconciler.certificates.rotation import (
    Action,
    Authorities,
    Facts,
    Policy,
    Serving,
    Standing,
    Step,
    advance,
    bundle,
    next_step,
)
from reconciler.kube.server_clock import ServerClock

NOW = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
POLICY = Policy(("a.garden.svc",), 365 * DAY, 30 * DAY, DAY, 120.0)


class Clocks:
    """A wall clock that may be wrong, and one that counts from the start of the machine."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.passed = 0.0
        self.ahead = ahead
        self.server = ServerClock(wall=lambda: NOW + self.passed + self.ahead, since_boot=lambda: 7.0 + self.passed)

    def answer(self, *, times: int = 3, off: float = 0.0) -> None:
        """Have the API server, or what answers in its place, answer with the true time plus `off`."""
        for _ in range(times):
            self.server.heard(formatdate(NOW + self.passed + off, usegmt=True))


DIFFERENCES = {
    "none": (0.0, ""),
    "a second": (1.0, ""),
    "a second behind": (-1.0, ""),
    "four minutes": (4 * MINUTE, ""),
    "four minutes behind": (-4 * MINUTE, ""),
    "ten minutes": (10 * MINUTE, "10 minutes ahead of"),
    "ten minutes behind": (-10 * MINUTE, "10 minutes behind"),
    "an hour": (HOUR, "60 minutes ahead of"),
    "the wrong zone": (2 * HOUR, "2 hours ahead of"),
    "another zone": (-9 * HOUR, "9 hours behind"),
    "days": (3 * DAY, "3 days ahead of"),
    "days behind": (-3 * DAY, "3 days behind"),
    "longer than a certificate": (40 * DAY, "40 days ahead of"),
    "longer than an authority": (400 * DAY, "400 days ahead of"),
    "never set": (-20_000 * DAY, "20000 days behind"),
}


@pytest.mark.parametrize(("ahead", "words"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_clock_that_differs_gives_way_to_the_api_servers(ahead: float, words: str) -> None:
    clocks = Clocks(ahead)
    clocks.answer()
    assert words in clocks.server.words
    assert bool(clocks.server.words) is bool(words)
    if words:
        assert clocks.server.now() == pytest.approx(NOW, abs=1)
        assert clocks.server.ahead_seconds == pytest.approx(ahead, abs=1)
    else:
        assert clocks.server.now() == NOW + ahead
        assert clocks.server.ahead_seconds == 0


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        "1800000000",
        "Fri, 99 Foo 2027 25:61:61 GMT",
        "Fri, 15 Jan 99999 08:00:00 GMT",
        "2027-01-15T08:00:00Z",
        "\x00",
        "Fri, 15 Jan 2027 08:00:00 +9999999999",
        "," * 1000,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_answer_without_a_readable_date_says_nothing(date: str | None) -> None:
    clocks = Clocks(2 * HOUR)
    for _ in range(9):
        clocks.server.heard(date)
    assert (clocks.server.now(), clocks.server.words) == (NOW + 2 * HOUR, "")
    clocks.answer()
    assert clocks.server.words


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000", "UTC"])
def test_a_date_is_read_in_its_usual_forms(zone: str) -> None:
    clocks = Clocks(2 * HOUR)
    for _ in range(3):
        clocks.server.heard(formatdate(NOW, usegmt=True).replace("GMT", zone))
    assert clocks.server.now() == pytest.approx(NOW, abs=1)


@pytest.mark.parametrize("off", [-30 * 365 * DAY, -DAY, -HOUR, HOUR, DAY, 30 * 365 * DAY])
def test_one_answer_of_a_proxy_with_a_time_of_its_own_changes_nothing(off: float) -> None:
    clocks = Clocks()
    clocks.answer(times=1, off=off)
    assert clocks.server.now() == NOW
    clocks.answer(times=3)
    assert clocks.server.now() == NOW
    clocks.answer(times=1, off=off)
    assert clocks.server.now() == NOW


def test_answers_that_disagree_leave_our_own_clock_in_force() -> None:
    clocks = Clocks(2 * HOUR)
    for off in (0.0, HOUR, -HOUR, DAY, -DAY):
        clocks.answer(times=1, off=off)
    assert (clocks.server.now(), clocks.server.words) == (NOW + 2 * HOUR, "")


@pytest.mark.parametrize("jump", [-3 * DAY, -2 * HOUR, 2 * HOUR, 3 * DAY])
def test_a_clock_that_jumps_is_noticed_at_once_and_forgiven_when_it_is_right_again(jump: float) -> None:
    clocks = Clocks()
    clocks.answer()
    clocks.passed, clocks.ahead = 30.0, jump
    assert clocks.server.now() == pytest.approx(NOW + 30, abs=1)
    clocks.passed, clocks.ahead = 60.0, 0.0
    assert (clocks.server.now(), clocks.server.words) == (NOW + 60, "")


def test_the_api_servers_clock_is_followed_when_it_is_set() -> None:
    clocks = Clocks()
    clocks.answer(times=5)
    clocks.answer(times=2, off=-DAY)
    assert clocks.server.now() == NOW, "most answers are older"
    clocks.answer(times=1, off=-DAY)
    assert clocks.server.now() == pytest.approx(NOW - DAY, abs=1)


@pytest.mark.parametrize("ahead", [value for value, words in DIFFERENCES.values() if words and value > -10_000 * DAY])
def test_what_is_issued_is_valid_for_both_clocks_until_it_is_renewed(ahead: float) -> None:
    authority = issue_authority(now=NOW, lifetime_seconds=365 * DAY, ahead_seconds=ahead)
    held = Authorities(authority.certificate, authority.key, since=NOW)
    facts = Facts(NOW, ahead_seconds=ahead)
    standing = advance(Step(Action.ISSUE_LEAF, ""), Standing(held), facts, POLICY)
    (leaf,) = read(standing.serving.certificate)
    for one in (leaf, *read(authority.certificate)):
        for moment in (NOW, NOW + ahead, NOW - HOUR / 2, NOW + 5 * DAY, NOW + ahead + 5 * DAY):
            assert one.is_valid_at(moment)
    assert next_step(standing, facts, POLICY).action is Action.NONE
    later = Facts(NOW + 29 * DAY + max(ahead, 0.0), ahead_seconds=ahead)
    assert next_step(standing, later, POLICY).action is Action.ISSUE_LEAF


@pytest.mark.parametrize("ahead", [2 * HOUR, 3 * DAY, 40 * DAY])
def test_a_leaf_that_a_clock_ahead_issued_before_is_replaced(ahead: float) -> None:
    """As versions before did: it is not valid yet where it is judged."""
    authority = issue_authority(now=NOW - DAY, lifetime_seconds=365 * DAY)
    held = Authorities(authority.certificate, authority.key, since=NOW - DAY)
    leaf = issue_serving(authority, names=POLICY.names, now=NOW + ahead, lifetime_seconds=30 * DAY)
    standing = Standing(held, Serving(leaf.certificate, leaf.key, bundle(held, NOW)))
    step = next_step(standing, Facts(NOW, read(authority.certificate)), POLICY)
    assert (step.action, step.reason) == (Action.ISSUE_LEAF, "the serving certificate is not valid now")


def test_the_wait_before_the_old_authority_goes_counts_from_when_the_leaf_was_stored() -> None:
    """A clock that is behind dates the leaf back; the wait must not be over at once."""
    old = issue_authority(now=NOW - 300 * DAY, lifetime_seconds=365 * DAY)
    new = issue_authority(now=NOW - DAY, lifetime_seconds=365 * DAY, ahead_seconds=-3 * DAY)
    held = Authorities(new.certificate, new.key, since=NOW, retiring=old.certificate)
    facts = Facts(NOW, (*read(old.certificate), *read(new.certificate)), ahead_seconds=-3 * DAY)
    standing = advance(Step(Action.ISSUE_LEAF, ""), Standing(held), facts, POLICY)
    assert next_step(standing, facts, POLICY).action is Action.NONE
