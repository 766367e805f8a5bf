"""The present code decides as it did when the lives under recorded/ were recorded: recording.py says what they hold."""

from __future__ import annotations

import json

import pytest

from tests.unit.controller.recording import LIVES, decisions, path_of


@pytest.mark.parametrize(("name", "seed"), LIVES)
def test_recorded_events_lead_to_the_recorded_decisions(name: str, seed: int) -> None:
    life = json.loads(path_of(name, seed).read_text())
    looks = 0
    for event, decided in decisions(life):
        looks += 1
        expected = {key: event[key] for key in decided}
        assert decided == expected, f"{event}: {life['records'][decided['decided']]}"
    assert looks > 50
