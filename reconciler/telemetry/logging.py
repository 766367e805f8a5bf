"""How the log looks: one JSON object a line in a pipe, coloured columns on a terminal, always on standard error.

What others say in this process goes the same way: Python's warnings as `python.warned`, and what libraries log by the
standard library's `logging` as `library.logged`. No path of a source file is in a line.
"""

import logging
import os
import sys
import warnings
from typing import TextIO

import structlog


def configure(*, level: str, style: str) -> None:
    """Set up structlog; `level` is debug, info, warning or error, `style` is auto, json or console."""
    as_console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
        if as_console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _Library)]:
        root.removeHandler(handler)
    root.addHandler(_Library())
    root.setLevel(logging.WARNING)  # what libraries say below that is about themselves
    logging.raiseExceptions = False  # a record that cannot be formatted would be told of with a traceback
    warnings.showwarning = _warned


def _warned(  # noqa: PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001 - a path of a source file helps no operator
    lineno: int,  # noqa: ARG001 - likewise
    file: TextIO | None = None,  # noqa: ARG001 - likewise
    line: str | None = None,  # noqa: ARG001 - likewise
) -> None:
    log: structlog.stdlib.BoundLogger = structlog.get_logger()
    log.warning("python.warned", category=category.__name__, message=str(message))


class _Library(logging.Handler):
    """Hands records of the standard library's loggers on to structlog; an exception as its words, without traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the library's format and its arguments do not fit
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        more = {} if error is None else {"error": f"{type(error).__name__}: {error}"}
        log: structlog.stdlib.BoundLogger = structlog.get_logger()
        log.log(record.levelno // 10 * 10, "library.logged", logger=record.name, message=message, **more)
