"""What a request is to a fault and to a test: a value with the API server's own distinctions, and its predicates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPMethod
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from tests.faults.http1 import Head


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the client sent it, its body whole."""

    head: Head
    body: bytes

    @property
    def method(self) -> str:
        """The method, upper case."""
        return self.head.start.split(" ")[0]

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.head.start.split(" ")[1].partition("?")[0]

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters; of a repeated one the last."""
        return dict(parse_qsl(self.head.start.split(" ")[1].partition("?")[2], keep_blank_values=True))

    @property
    def is_write(self) -> bool:
        """Whether the verb writes (a dry-run and a review count: see is_dry_run)."""
        return self.method not in {HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.OPTIONS}

    @property
    def is_watch(self) -> bool:
        """Whether it asks for a watch stream."""
        return self.method == HTTPMethod.GET and self.query.get("watch", "").lower() in {"true", "1"}

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is to be persisted: dryRun in the query, or in a deletion's options."""
        if "dryRun" in self.query:
            return True
        if self.method != HTTPMethod.DELETE or not self.body:
            return False
        try:
            options = json.loads(self.body)
        except ValueError:
            return False
        return isinstance(options, dict) and bool(options.get("dryRun"))


Predicate: TypeAlias = Callable[[Request], bool]


def anything(_: Request) -> bool:
    """Match every request."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A predicate over requests: all that is given must hold, None does not matter."""

    method: str | None = None
    path: str = ""
    watch: bool | None = None
    write: bool | None = None
    dry_run: bool | None = None

    def __call__(self, request: Request) -> bool:
        """Tell whether the request has the method, contains the path and is of the kinds asked for."""
        return (
            self.method in {None, request.method}
            and self.path in request.path
            and self.watch in {None, request.is_watch}
            and self.write in {None, request.is_write}
            and self.dry_run in {None, request.is_dry_run}
        )
