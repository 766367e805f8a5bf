"""The audit log as a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from tests.controlplane import audit

if TYPE_CHECKING:
    from pathlib import Path


def test_rotated_files_come_first_and_a_line_still_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "audit-2026-01-02T00-00-00.000.log").write_text('{"n": 2}\n')
    (tmp_path / "audit-2026-01-01T00-00-00.000.log").write_text('{"n": 1}\n')
    (tmp_path / "audit.log").write_text('{"n": 3}\n{"n": 4}\n{"n": 5')
    assert audit.read(tmp_path) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


def test_no_log_is_no_event(tmp_path: Path) -> None:
    assert audit.read(tmp_path) == []


def test_the_policy_covers_everything(tmp_path: Path) -> None:
    flags = audit.flags(tmp_path)
    assert f"--audit-policy-file={tmp_path / 'audit-policy.yaml'}" in flags
    policy = yaml.safe_load((tmp_path / "audit-policy.yaml").read_text())
    assert policy["omitStages"] == ["RequestReceived"]
    assert json.dumps(policy["rules"]) == '[{"level": "Metadata"}]'
