"""The Dockerfile as its instructions, for tests that ask what it says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOCKERFILE: Final = Path(__file__).resolve().parent.parent / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, and the rest on one line."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of an exec form; ValueError for the shell form."""
        found: list[str] = json.loads(self.text)
        return found

    @property
    def pairs(self) -> dict[str, str]:
        """What ENV, ARG and LABEL set; an ARG without a default is empty."""
        return {key: value.strip('"') for key, value in re.findall(r'([\w.]+)(?:=("[^"]*"|\S*))?', self.text)}


def stages() -> list[list[Instruction]]:
    """Return the stages, each from its FROM on; what stands before the first FROM is the first of all."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, " ".join(rest.split())))
    return found


def only(stage: list[Instruction], name: str) -> Instruction:
    """Return the one instruction of that name; ValueError for none or several."""
    (found,) = [instruction for instruction in stage if instruction.name == name]
    return found


def environment() -> dict[str, str]:
    """Return the variables of a container, but HOSTNAME and HOME, which its runtime sets."""
    return only(stages()[-1], "ENV").pairs


def entrypoint() -> list[str]:
    """Return what a container starts; the arguments of its manifest follow."""
    return only(stages()[-1], "ENTRYPOINT").words


def copied() -> list[str]:
    """Return what the first stage takes from the source's folder."""
    copies = [one.text.split() for stage in stages() for one in stage if one.name == "COPY"]
    return [name for words in copies if not words[0].startswith("--from") for name in words[:-1]]
