"""docs/architecture.md names tests: each of them exists, so that a rename cannot lose one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SECTION = "## Orderings that safety depends on"


def test_each_ordering_names_a_test_that_exists() -> None:
    page = (REPOSITORY / "docs/architecture.md").read_text()
    section = page.partition(SECTION)[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row) for row in rows]
    assert [len(tests) for tests in named] == [1] * 6, "six orderings, one test each"
    for path, name in (tests[0] for tests in named):
        defined = ast.walk(ast.parse((REPOSITORY / path).read_text()))
        assert name in [one.name for one in defined if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)], name
