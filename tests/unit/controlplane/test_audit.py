"""The audit log as a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from tests.controlplane import audit

if TYPE_CHECKING:
    from pathlib import Path


def test_each_line_is_read_once_and_one_still_being_written_when_it_is_whole(tmp_path: Path) -> None:
    log = audit.Log(tmp_path)
    assert log.read() == []
    with (tmp_path / "audit.log").open("w") as file:
        for text, expected in (('{"n": 1}\n{"n": 2', [1]), ("}\n", [1, 2]), ("", [1, 2])):
            file.write(text)
            file.flush()
            assert [event["n"] for event in log.read()] == expected


def test_the_policy_covers_everything(tmp_path: Path) -> None:
    flags = audit.flags(tmp_path)
    assert f"--audit-policy-file={tmp_path / 'audit-policy.yaml'}" in flags
    policy = yaml.safe_load((tmp_path / "audit-policy.yaml").read_text())
    assert policy["omitStages"] == ["RequestReceived"]
    assert json.dumps(policy["rules"]) == '[{"level": "Metadata"}]'
