"""JSON that is nested as deeply as the API server keeps it is read, whatever the version of Python."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import bounded_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


def cut(value: object, depth: int) -> object:
    if isinstance(value, list):
        return [cut(one, depth - 1) for one in value] if depth else None
    if isinstance(value, dict):
        return {key: cut(one, depth - 1) for key, one in value.items()} if depth else None
    return value


@given(JSON, st.integers(1, 5), st.booleans())
def test_what_is_deeper_is_null_and_all_else_is_as_it_was(value: object, depth: int, ascii_only: bool) -> None:  # noqa: FBT001 - hypothesis
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert bounded_json.loads(text, depth=depth) == cut(value, depth)


@pytest.mark.parametrize("levels", [1_000, 9_995, 200_000])
def test_deep_managed_fields_hide_nothing_beside_them(levels: int) -> None:
    deep = '{"f:x":' * levels + "{}" + "}" * levels
    text = f'{{"items": [{{"metadata": {{"name": "a", "managedFields": [{deep}]}}, "spec": 1}}, {{"spec": 2}}]}}'
    for loads in (bounded_json.loads, bounded_json.loads_quickly):
        found = loads(text.encode())
        assert [item["spec"] for item in found["items"]] == [1, 2]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "[" * 200 + "]" * 199, "]" * 200, '"' + '\\"' * 300_000, "[" * 101 + '"' + "[" * 500],
    ids=["empty", "open", "open-deep", "open-once", "closed", "endless-string", "endless-string-deep"],
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        bounded_json.loads(text.encode())
