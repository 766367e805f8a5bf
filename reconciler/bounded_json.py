"""JSON of others, read without recursion: what is nested too deeply is cut out, the rest is read as it is. Pure.

A user who may create a pod may nest its managedFields up to 9,995 levels, and the API server keeps them. The decoders
of Python call themselves for each level and raise RecursionError: from about 1,000 on with Python 3.11, 10,000 with
3.13.
Only managedFields can be that deep in the objects that we read, so what is cut out is never what we look for.

>>> loads(b'{"a": [1, {"b": [2]}]}', depth=2)
{'a': [1, None]}
"""

import json
import re
from mmap import mmap
from typing import Any, Final

# The managedFields of real objects nest about 20 levels.
DEEPEST: Final = 100

# Up to the next bracket, over whole strings: one match for each bracket. The string may lack its end, or what has none
# would be searched again from each of its quotes; possessive, so that nothing is kept to come back to.
_BRACKET: Final = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+([\[\]{}])', re.DOTALL)
_OPENS: Final = (b"[", b"{")


def loads(text: bytes, *, depth: int = DEEPEST) -> Any:  # noqa: ANN401 - whatever JSON came
    """Return what the JSON `text` says, with null for each list and object below `depth`; ValueError if it is none."""
    if text.count(b"{") + text.count(b"[") > depth:
        text = cut(text, depth)
    try:
        return json.loads(text)
    except RecursionError as error:  # brackets that do not close
        raise ValueError("nested too deeply") from error


def loads_quickly(text: bytes) -> Any:  # noqa: ANN401 - likewise
    """Return the same in less than half of the time, but cut only what Python cannot decode.

    What is returned may be thousands of levels deep: never recurse over it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        return loads(text)


def cut(text: bytes | mmap, depth: int = DEEPEST) -> bytes:
    """Return the JSON `text` with null for each list and object below `depth`."""
    level, kept, start = 0, 0, 0
    parts: list[bytes] = []
    for match in _BRACKET.finditer(text):
        if match[1] in _OPENS:
            level += 1
            if level == depth + 1:
                start = match.end() - 1
        else:
            level -= 1
            if level == depth:
                parts += (text[kept:start], b"null")
                kept = match.end()
    return b"".join((*parts, text[kept:])) if parts else text[:]
