"""YAML that is nested too deeply is refused before it is read.

libyaml reads any depth, but PyYAML calls itself for each level and ends the process at about 50,000.
"""

import re
from typing import Final

import yaml

_MOST_LEVELS: Final = 1_000
# Without one of these YAML cannot nest so deeply: a thousand brackets, or a line that begins with as many indicators.
_INDICATORS: Final = re.compile(rb"[-?: \t]{%d}" % _MOST_LEVELS)


def refuse_depth(content: bytes) -> None:
    """Raise ValueError where `content` nests 1,000 levels or more; what is no YAML may raise yaml.YAMLError."""
    if content.count(b"[") + content.count(b"{") < _MOST_LEVELS and not _INDICATORS.search(content):
        return
    level = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level >= _MOST_LEVELS:
            raise ValueError(f"nested {_MOST_LEVELS} levels or more")
