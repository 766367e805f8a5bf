"""A reconciler whose clock is hours off renews a certificate under load at Fail: no pod is refused."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from reconciler.certificates.authority import read
from reconciler.cluster import Cluster
from reconciler.controller.oneshot import one_pass
from tests.backend import SECRET
from tests.cluster.answered import Answered, answered
from tests.cluster.patience import until
from tests.cluster.test_rotation import MERGE, data, settings_of
from tests.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.field import Field


@pytest.fixture
def path(field: Field, tmp_path: Path) -> Iterator[Answered]:
    with answered(field, tmp_path) as found:
        yield found


@pytest.mark.parametrize("hours", [5, -5, 24 * 40], ids=["ahead", "behind", "ahead by more than a life"])
def test_a_renewal_by_a_clock_that_is_off_refuses_no_pod(
    path: Answered, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    path.registered(failurePolicy="Fail")
    before = data(path, SECRET)["tls.crt"]
    true = time.time
    with Load(path.field.seed) as load:
        path.field.other.request("PATCH", SECRET, {"data": {"tls.key": ""}}, MERGE)

        async def passed() -> str:
            async with Cluster(kubeconfig=path.field.seed.kubeconfig) as cluster:
                found = (await one_pass(cluster, settings_of(path))).trust
                assert found is not None
                return found.clock

        monkeypatch.setattr(time, "time", lambda: true() + hours * 3600)
        words = asyncio.run(passed())
        monkeypatch.undo()
        assert f"clock is {abs(hours) if abs(hours) < 48 else abs(hours) // 24}" in words
        (leaf,) = read(data(path, SECRET)["tls.crt"])
        assert leaf.pem != read(before)[0].pem
        assert leaf.is_valid_at(true())
        assert leaf.is_valid_at(true() + hours * 3600)
        expiry = "seccomp_reconciler_admission_certificate_expiry_timestamp_seconds"
        until(lambda: path.server.metric(expiry) == leaf.not_after)
        count = load.created
        until(lambda: load.created > count + 10)
    assert load.failures == []
