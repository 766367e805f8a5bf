"""The errors an operator can meet, each with the exit code that scripts can trust.

One hierarchy: whoever raises says what was read, what was expected and what to do; the command line maps the class
to its code (sysexits.h) and nothing else. No I/O and no import of the rest of the house enters here.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a process tells its caller. Source: sysexits.h, plus `kubectl diff` for DIFFERENT."""

    OK = 0
    DIFFERENT = 1
    USAGE = 64
    INVALID_CONFIGURATION = 65
    CONFIGURATION_NOT_FOUND = 66
    UNAVAILABLE = 69
    INTERNAL = 70
    FOREIGN_OBJECT = 73
    TRY_AGAIN = 75
    FORBIDDEN = 77


class ReconcilerError(Exception):
    """Base of all errors that carry a message for an operator; `exit_code` is what the process ends with."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL


class UsageError(ReconcilerError):
    """The command line asks for something that cannot be done as written."""

    exit_code = ExitCode.USAGE


class InvalidConfigurationError(ReconcilerError):
    """A configuration was found but cannot be used: it never changes what stands in the cluster."""

    exit_code = ExitCode.INVALID_CONFIGURATION


class ConfigurationNotFoundError(ReconcilerError):
    """A configuration is not where it was said to be."""

    exit_code = ExitCode.CONFIGURATION_NOT_FOUND


class UnavailableError(ReconcilerError):
    """The API server could not be reached or failed; `retry_after_seconds` is the wait it asked for, or 0."""

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class CredentialPluginError(UnavailableError):
    """The kubeconfig's credential plugin has no credentials for us; the message holds its own words."""


class ForeignObjectError(ReconcilerError):
    """An object of our name exists and is not ours."""

    exit_code = ExitCode.FOREIGN_OBJECT


class ConflictError(ReconcilerError):
    """The object changed between read and write: read again and plan again."""

    exit_code = ExitCode.TRY_AGAIN


class NotProvedError(ReconcilerError):
    """The path through the API server could not be proved in time; the message holds the verdict."""

    exit_code = ExitCode.TRY_AGAIN


class NotLeadingError(ReconcilerError):
    """Another reconciler may lead by now: nothing is written until the Lease is held again."""

    exit_code = ExitCode.TRY_AGAIN


class HeldError(ReconcilerError):
    """A reconciler that runs holds the Lease, or may: what it looks after cannot be taken away for good."""

    exit_code = ExitCode.TRY_AGAIN


class ForbiddenError(ReconcilerError):
    """The API server refuses our identity; the message names verb, resource and the missing rule."""

    exit_code = ExitCode.FORBIDDEN


class RejectedError(ReconcilerError):
    """The API server refuses the object itself (400, 422): a setting must change, repeating cannot help."""

    exit_code = ExitCode.INVALID_CONFIGURATION
