"""YAML text: libyaml's events, held to what go-yaml's scanner takes. Source: go.yaml.in/yaml v2.4."""

import re
from array import array
from typing import Final, Protocol

import yaml

from reconciler.gardenlet.tree import Decoder, unfit_value
from reconciler.gardenlet.values import MAX_TAG_DIRECTIVES, Place, Unreadable, Value

try:
    from yaml.cyaml import CParser  # type: ignore[attr-defined] # the stubs forget it
except ImportError:  # PyYAML was built without libyaml; its Python parser reads other documents than go-yaml does
    CParser = None  # type: ignore[assignment,misc]


_NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UTF16: Final = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def _yaml_text(document: bytes) -> str:
    """Return the characters of a YAML stream without its byte order mark. Source: go-yaml readerc."""
    encoding = _UTF16.get(document[:2], "utf-8")
    try:
        text = document.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start} is no valid {encoding.upper()}: {error.reason}") from None
    if bad := _NOT_YAML.search(text):
        place = _place_of(text, bad.start())
        raise Unreadable(f"the control character U+{ord(bad.group()):04X} is not allowed", place)
    return text


def _place_of(text: str, offset: int) -> Place:
    line = line_start = 0
    for line_break in _LINE_BREAK.finditer(text, 0, offset):
        line += 1
        line_start = line_break.end()
    return Place(line, offset - line_start)


_LONG_VERSION: Final = re.compile("(?:^|[\r\n\x85\u2028\u2029])%YAML[ \t]+(?:[0-9]{3,}|[0-9]{1,2}\\.[0-9]{3,})")
_TAG_DIRECTIVE: Final = re.compile("(?:^|[\r\n\x85\u2028\u2029])%TAG")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class _Source:
    """The text of the document, to look at what an event no longer tells."""

    __slots__ = ("_line_starts", "has_escaped_nul", "has_escaped_slash", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.has_escaped_slash = "\\/" in text
        self.has_escaped_nul = "%00" in text
        self._line_starts: array[int] | None = None

    def offset(self, place: Place) -> int:
        # Not the mark's own index: libyaml counts a CR LF within a scalar once, and elsewhere twice.
        if self._line_starts is None:
            self._line_starts = array("I", [0])
            self._line_starts.extend(match.end() for match in _LINE_BREAK.finditer(self.text))
        if place.line >= len(self._line_starts):
            return len(self.text)
        return self._line_starts[place.line] + place.column

    def between(self, event: yaml.Event) -> str:
        return self.text[self.offset(_place(event.start_mark)) : self.offset(_place(event.end_mark))]


class _Mark(Protocol):
    """What PyYAML's two kinds of marks have in common."""

    line: int
    column: int


def _place(mark: _Mark | None) -> Place:
    return Place(0, 0) if mark is None else Place(mark.line, mark.column)


def _check_scalar(event: yaml.ScalarEvent, source: _Source, *, in_flow: bool) -> None:
    """Refuse what libyaml takes and go-yaml's scanner does not, or reads as something else."""
    if event.style == '"':
        if source.has_escaped_slash and any(match[1] == "/" for match in _ESCAPE.finditer(source.between(event))):
            raise Unreadable('the escape \\/ within double quotes is no YAML 1.1: write "/"')
    elif in_flow and not event.style and "?" in event.value:
        raise Unreadable("a question mark within an unquoted text in [] or {}: quote the text")
    if event.tag is not None:
        _check_tag(event, source, in_flow=in_flow)


def _check_tag(event: yaml.ScalarEvent, source: _Source, *, in_flow: bool) -> None:
    if source.has_escaped_nul:
        raise Unreadable("a tag, and %00 in the same document: the one or the other")
    if in_flow and not event.value and not event.style:
        end = source.offset(_place(event.end_mark))
        if source.text[end : end + 1] == ",":
            raise Unreadable("a tag that touches a comma: put a space between")


def _check_text(text: str) -> None:
    """Refuse what makes libyaml differ from go-yaml or slow, and can be seen before parsing."""
    if "\ufeff" in text:
        raise Unreadable("a byte order mark within the text", _place_of(text, text.index("\ufeff")))
    if _LONG_VERSION.search(text):
        raise Unreadable("the version of the %YAML directive has more than two digits")
    if sum(1 for _ in _TAG_DIRECTIVE.finditer(text)) > MAX_TAG_DIRECTIVES:
        raise Unreadable(f"more than {MAX_TAG_DIRECTIVES} %TAG directives")


def read_yaml(document: bytes) -> Value:
    """Return the first YAML document of the stream; Unreadable where go-yaml refuses it."""
    if CParser is None:
        raise Unreadable("YAML cannot be read as PyYAML was installed without libyaml: install one of its wheels")
    text = _yaml_text(document)
    _check_text(text)
    source, decoder, parser = _Source(text), Decoder(), CParser(document)
    event: yaml.Event | None = None
    try:
        while (event := parser.get_event()) is not None and not _is_end(event):
            _take(event, decoder, source)
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(problem, _place(error.problem_mark or error.context_mark)) from None
    except yaml.YAMLError as error:
        raise Unreadable(str(error)) from None
    except UnicodeDecodeError:
        raise Unreadable(
            "a tag holds percent-escapes that are no UTF-8", _place(event.end_mark if event else None)
        ) from None
    except Unreadable as error:
        raise Unreadable(error.problem, _place(event.start_mark if event else None)) from None
    if reason := unfit_value(decoder.root):
        raise Unreadable(reason)
    return decoder.root


def _is_end(event: yaml.Event) -> bool:
    """Tell whether the first document, the only one that gardenlet reads, is over (or there is none)."""
    return isinstance(event, yaml.DocumentEndEvent | yaml.StreamEndEvent)


def _take(event: yaml.Event, decoder: Decoder, source: _Source) -> None:
    if isinstance(event, yaml.ScalarEvent):
        _check_scalar(event, source, in_flow=bool(decoder.stack) and decoder.stack[-1].in_flow)
        decoder.scalar(event)
    elif isinstance(event, yaml.CollectionStartEvent):
        if event.tag is not None and source.has_escaped_nul:
            raise Unreadable("a tag, and %00 in the same document: the one or the other")
        decoder.start(event, is_mapping=isinstance(event, yaml.MappingStartEvent))
    elif isinstance(event, yaml.CollectionEndEvent):
        decoder.end()
    elif isinstance(event, yaml.AliasEvent):
        decoder.alias(event)
    elif isinstance(event, yaml.DocumentStartEvent) and event.version not in (None, (1, 1)):
        raise Unreadable("only %YAML 1.1 is understood")
