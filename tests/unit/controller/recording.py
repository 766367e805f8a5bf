"""Decisions about failurePolicy in random lives with fixed seeds, as plain values: events in, decisions out.

Code that is written anew is held against recorded/*.json: for the same events it must come to the same decisions. A
file names no class. It holds one life of the world of policyworld.py, in which two reconcilers start, die, sleep, are
stopped and probe, clocks jump, the path breaks, and others change the registration:

    policy      the settings, in seconds
    reasons     the texts of all reasons, once each: what is reworded changes here only
    records     what is recorded of a registration (state, since, reason, flaps, windows), once each
    processes   for each process since it started or woke: `began`, and its events in order

Events of a process are `{"at", "probe"}`, a probe that began `at` and its result, and looks:
    wall, at        the time by both clocks (seconds since the epoch, monotonic)
    seen            until when (wall clock) the registration was surely as decided
    registered      its failurePolicy; null: it is absent
    recorded        what is recorded of it, an index of `records`; null: nothing
    blockers        no probe can succeed, paused, refused by lint: 1 where it holds
    decided         what is decided, an index of `records`
    due             when to decide again at the latest, monotonic; null: at the next event
    next_probe      seconds until the next probe, after one that was successful

A look that repeats the one before it is left out.

`python -m tests.unit.controller.recording` records anew. Do that where a decision is meant to change, and read the
diff.
"""

from __future__ import annotations

import json
import math
import random
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from reconciler.controller import failure_policy
from reconciler.controller.failure_policy import Circumstances, Clock, Knowledge, Policy
from reconciler.controller.proof import Verdict
from reconciler.registration.memory import Memory, State, Window
from reconciler.settings import Adaptive, FailurePolicy, Ramp
from tests.unit.controller import policyworld
from tests.unit.controller.policyworld import POLICIES, World
from tests.unit.controller.test_failure_policy_model import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER: Final = Path(__file__).parent / "recorded"
# Policies of policyworld.py and seeds.
LIVES: Final = (
    ("default", 10),
    ("default", 24),
    ("impatient", 12),
    ("rare", 39),
    ("many", 14),
    ("fail", 15),
    ("ignore", 16),
    ("never", 17),
)
_EVENTS: Final = 220  # after which a life ends
_PAUSES: Final = (0.0, 1.0, 5.0, 12.0, 31.0, 60.0, 61.0, 130.0)
_WHILES: Final = (300.0, 700.0, 4000.0)
_RESULTS: Final = {
    "ok": Verdict.PROVED,
    "not-mutated": Verdict.NOT_MUTATED,
    "unreachable": Verdict.UNREACHABLE,
    "inconclusive": Verdict.INCONCLUSIVE,
}
_BLOCKERS: Final = ("no endpoint", "paused", "refused")
_DIGITS: Final = 3

Life = dict[str, Any]


# Values as plain numbers and strings, and back.


class _Tables:
    """The texts and records of one life, once each."""

    def __init__(self, life: Life) -> None:
        self._reasons: list[str] = life.setdefault("reasons", [])
        self._records: list[list[Any]] = life.setdefault("records", [])

    def plain(self, memory: Memory | None) -> int | None:
        """Return the index of what is recorded."""
        if memory is None:
            return None
        windows = [[_round(one.start), _round(one.end), self._reason(one.reason)] for one in memory.windows]
        record = [memory.state.value, _round(memory.since), self._reason(memory.reason), memory.flaps, windows]
        if record not in self._records:
            self._records.append(record)
        return self._records.index(record)

    def memory(self, index: int | None) -> Memory | None:
        """Return what `plain` made an index of."""
        if index is None:
            return None
        state, since, reason, flaps, windows = self._records[index]
        kept = tuple(Window(start, end, self._reasons[why]) for start, end, why in windows)
        return Memory(State(state), since, self._reasons[reason], flaps, kept)

    def _reason(self, text: str) -> int:
        if text not in self._reasons:
            self._reasons.append(text)
        return self._reasons.index(text)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None or math.isinf(seconds) else round(seconds, _DIGITS)


def _plain_policy(policy: Policy) -> dict[str, Any]:
    adaptive = policy.adaptive
    return {
        "failurePolicy": policy.kind.value,
        "ramp": policy.ramp.value,
        "probes": adaptive.proofs,
        "soak": adaptive.soak_seconds,
        "longestSoak": adaptive.longest_soak_seconds,
        "lossTolerance": adaptive.loss_tolerance_seconds,
        "floor": adaptive.floor_seconds,
        "calm": adaptive.calm_seconds,
        "period": policy.period_seconds,
        "longestProbe": policy.probe_seconds,
    }


def _policy(plain: dict[str, Any]) -> Policy:
    names = {"lossTolerance": "loss_tolerance", "longestSoak": "longest_soak"}
    seconds = {f"{names.get(key, key)}_seconds": plain[key] for key in ("soak", "floor", "calm", *names)}
    adaptive = Adaptive().model_copy(update={"proofs": plain["probes"], **seconds})
    kind, ramp = FailurePolicy(plain["failurePolicy"]), Ramp(plain["ramp"])
    return Policy(kind, ramp, adaptive, plain["period"], plain["longestProbe"])


# Events in, decisions out: the only place that calls what is to be held against the recording.


def decisions(life: Life) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each look of `life` and what the present code decides then: decided, due, next_probe."""
    policy, tables = _policy(life["policy"]), _Tables(life)
    for process in life["processes"]:
        knowledge = Knowledge(process["began"])
        for event in process["events"]:
            if "probe" in event:
                knowledge = knowledge.saw(_RESULTS[event["probe"]], event["probe"], at=event["at"], policy=policy)
                continue
            blockers = (words if holds else "" for words, holds in zip(_BLOCKERS, event["blockers"], strict=True))
            registered = event["registered"] and State(event["registered"])
            recalled = failure_policy.recall(
                tables.memory(event["recorded"]), registered, knowledge, now=event["wall"], looked_at=event["seen"]
            )
            clock = Clock(event["wall"], event["at"])
            decision = failure_policy.decide(recalled, knowledge, Circumstances(*blockers), policy, clock)
            knowledge = decision.knowledge
            next_probe = failure_policy.next_proof_seconds(decision.memory, knowledge, policy)
            yield (
                event,
                {
                    "decided": tables.plain(decision.memory),
                    "due": _round(decision.due),
                    "next_probe": _round(next_probe),
                },
            )


# Recording.


class _Tape:
    """Hears what the reconcilers of a world ask of the product."""

    def __init__(self, policy: Policy) -> None:
        self.life: Life = {"policy": _plain_policy(policy), "reasons": [], "records": [], "processes": []}
        self._tables = _Tables(self.life)
        self._events: dict[float, list[dict[str, Any]]] = {}
        self._look: dict[str, Any] = {}
        self._last: dict[float, tuple[object, ...]] = {}
        self._saw, self._recall, self._decide = Knowledge.saw, failure_policy.recall, failure_policy.decide

    def as_method(self) -> Callable[..., Knowledge]:
        """Return Knowledge.saw that is heard."""

        def saw(knowledge: Knowledge, verdict: Verdict, words: str, *, at: float, policy: Policy) -> Knowledge:
            result = next(name for name, one in _RESULTS.items() if one is verdict)
            self._of(knowledge).append({"at": _round(at), "probe": result})
            return self._saw(knowledge, verdict, words, at=at, policy=policy)

        return saw

    def recall(
        self, remembered: Memory | None, standing: State | None, knowledge: Knowledge, *, now: float, looked_at: float
    ) -> Memory | None:
        self._look = {
            "seen": _round(looked_at),
            "registered": standing and standing.value,
            "recorded": self._tables.plain(remembered),
        }
        return self._recall(remembered, standing, knowledge, now=now, looked_at=looked_at)

    def decide(
        self, memory: Memory | None, knowledge: Knowledge, circumstances: Circumstances, policy: Policy, clock: Clock
    ) -> failure_policy.Decision:
        found = (circumstances.impossible, circumstances.paused, circumstances.refused)
        times = {"wall": _round(clock.wall), "at": _round(clock.monotonic)}
        look = {**times, **self._look, "blockers": [int(bool(one)) for one in found]}
        decision = self._decide(memory, knowledge, circumstances, policy, clock)
        # Only what a decision leaves as it is can be repeated without a change.
        seen = (self._look["registered"], self._look["recorded"], look["blockers"], decision.memory, knowledge)
        if self._last.get(knowledge.began) != seen or decision.memory != memory:
            self._of(knowledge).append(look)
        self._last[knowledge.began] = seen
        return decision

    @property
    def events(self) -> int:
        return sum(map(len, self._events.values()))

    def _of(self, knowledge: Knowledge) -> list[dict[str, Any]]:
        if knowledge.began not in self._events:
            self._events[knowledge.began] = []
            process = {"began": _round(knowledge.began), "events": self._events[knowledge.began]}
            self.life["processes"].append(process)
        return self._events[knowledge.began]


def record(name: str, seed: int) -> Life:
    """Return a life with the policy `name`, and what the present code decides in it."""
    chance = random.Random(seed)  # noqa: S311 - to be the same each time
    tape = _Tape(POLICIES[name])
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(policyworld, "recall", tape.recall))
        stack.enter_context(mock.patch.object(policyworld, "decide", tape.decide))
        stack.enter_context(mock.patch.object(Knowledge, "saw", tape.as_method()))
        acts = {**ACTIONS, "hidden": _hide}
        world = World(POLICIES[name])
        world.reconcilers[0].start()
        while tape.events < _EVENTS:
            world.advance(chance.choice(_PAUSES))
            if chance.random() < 0.02:
                world.advance(chance.choice(_WHILES))
            if chance.random() < 0.3:
                _mend(world)
            acts[chance.choice(sorted(acts))](world)
    for event, decided in decisions(tape.life):
        event.update(decided)
    return tape.life


def _mend(world: World) -> None:
    """Have everything work again for a while, or most of the life would be spent at Ignore."""
    world.is_working, world.is_conclusive = True, True
    world.is_impossible = world.is_paused = world.is_refused = False
    world.changed()
    for one in world.reconcilers:
        one.go_on()
    if not any(one.is_alive for one in world.reconcilers):
        world.reconcilers[0].start()
    world.advance(200.0)


def _hide(world: World) -> None:
    """Have the path break, and soon afterwards something else be in the way of every probe."""
    world.is_working = False
    world.changed()
    world.advance(65.0)
    world.is_conclusive = False
    world.changed()
    world.advance(130.0)


def text_of(life: Life) -> str:
    """Return `life` as JSON with one record or event a line."""

    def lines(values: list[Any], indent: str) -> str:
        return "[\n" + ",\n".join(f"{indent}{json.dumps(one, separators=(',', ':'))}" for one in values) + "]"

    processes = ",\n".join(
        f' {{"began": {json.dumps(one["began"])}, "events": {lines(one["events"], "  ")}}}' for one in life["processes"]
    )
    tables = "".join(f'"{key}": {lines(life[key], " ")},\n' for key in ("reasons", "records"))
    return f'{{"policy": {json.dumps(life["policy"])},\n{tables}"processes": [\n{processes}]}}\n'


def path_of(name: str, seed: int) -> Path:
    """Return where that life is recorded."""
    return FOLDER / f"{name}-{seed}.json"


def main() -> None:
    """Record every life anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, seed in LIVES:
        path = path_of(name, seed)
        path.write_text(text_of(record(name, seed)))
        print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
