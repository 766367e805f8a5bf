"""Credential plugins (`exec` of a kubeconfig's user): what is run, what it is told, what it answers, how it ends.

A plugin gets KUBERNETES_EXEC_INFO and prints an ExecCredential. It runs beside the event loop, within a time limit, and
is ended with its children. Which cluster it is for comes from the caller; nothing here talks to an API server.
Source: client-go, plugin/pkg/client/auth/exec.
"""

import asyncio
import base64
import json
import os
import signal
import sys
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog

from reconciler.errors import CredentialPluginError, InvalidConfigurationError

# The cluster's extension that is handed to the plugin as spec.cluster.config.
EXTENSION: Final = "client.authentication.k8s.io/exec"
_API_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_INTERACTIVE_MODES: Final = ("Never", "IfAvailable", "Always")
# Credentials are renewed this long before they expire, or a fifth of their life before where that is less.
_RENEWED_BEFORE_SECONDS: Final = 30.0
# A plugin that has not answered after this long is named: it may wait for a person.
_NOTICE_SECONDS: Final = 5.0
# From SIGTERM to SIGKILL.
_GRACE_SECONDS: Final = 0.5
# A child that outlives the plugin may keep its output open; nothing more is expected from it.
_LEFTOVER_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.02
# A credential is a few KB.
_MOST_OUTPUT_BYTES: Final = 1024 * 1024
_LAST_LINES: Final = 10

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Credential:
    """What a plugin answered; `renew_at` is the wall-clock second from which it is asked again."""

    token: str = field(default="", repr=False)
    certificate: str = ""
    key: str = field(default="", repr=False)
    renew_at: float = float("inf")

    def as_user(self) -> dict[str, str]:
        """Return it as a kubeconfig writes a user."""
        user = {"token": self.token} if self.token else {}
        if self.certificate:
            user["client-certificate-data"] = base64.b64encode(self.certificate.encode()).decode()
            user["client-key-data"] = base64.b64encode(self.key.encode()).decode()
        return user


@dataclass(frozen=True, slots=True)
class CredentialPlugin:
    """One plugin as the kubeconfig writes it; `cluster` is its spec.cluster, None where not wanted."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    api_version: str
    interactive_mode: str
    install_hint: str
    cluster: Mapping[str, Any] | None

    def __str__(self) -> str:
        return f"credential plugin {self.command}"

    async def ask(self, *, timeout_seconds: float, may_ask_a_person: bool) -> Credential:
        """Run it and return its answer; CredentialPluginError where it has none within `timeout_seconds`.

        With `may_ask_a_person` what it writes to standard error is shown at once, and it gets the terminal.
        """
        is_interactive = self._is_interactive(may_ask_a_person=may_ask_a_person)
        output, words = await self._output(timeout_seconds, is_interactive=is_interactive, is_shown=may_ask_a_person)
        try:
            return credential(output, api_version=self.api_version, now=time.time())
        except ValueError as error:
            raise CredentialPluginError(f"{self} ended without an error, but {error}{_quoted(words)}") from error

    def _is_interactive(self, *, may_ask_a_person: bool) -> bool:
        has_terminal = may_ask_a_person and sys.stdin is not None and sys.stdin.isatty()
        if self.interactive_mode == "Always" and not has_terminal:
            raise CredentialPluginError(
                f"{self} needs a terminal (interactiveMode Always), and standard input is none: "
                "log in where there is one, or use a kubeconfig whose user needs no person"
            )
        return has_terminal and self.interactive_mode != "Never"

    async def _output(self, timeout_seconds: float, *, is_interactive: bool, is_shown: bool) -> tuple[bytes, str]:
        info = {
            "apiVersion": self.api_version,
            "kind": "ExecCredential",
            "spec": {"interactive": is_interactive, **({} if self.cluster is None else {"cluster": self.cluster})},
        }
        environment = {**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            # A group of its own, to be ended whole. Without a person also a session of its own: a question to the
            # terminal then fails at once.
            process = await _started(
                self.command,
                *self.arguments,
                env=environment,
                stdin=None if is_interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=not is_interactive,
                process_group=0 if is_interactive else None,
            )
        except (OSError, ValueError) as error:
            raise CredentialPluginError(f"{self} cannot be started: {error}{self._hint()}") from error
        said: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            with _foreground(process.pid) if is_interactive else _nothing():
                async with asyncio.timeout(timeout_seconds):
                    output = await self._answer(process, said, is_shown=is_shown)
        except TimeoutError as error:
            raise CredentialPluginError(
                f"{self} did not answer within {timeout_seconds:g} s and was ended{_quoted(_joined(said))}"
            ) from error
        finally:
            await _ended(process)
        words = _joined(said)
        if process.returncode:
            code = process.returncode
            how = f"exit status {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
            raise CredentialPluginError(f"{self} failed ({how}){_quoted(words)}{self._hint()}")
        return output, words

    async def _answer(self, process: asyncio.subprocess.Process, said: deque[str], *, is_shown: bool) -> bytes:
        """Return what it prints until it ends; a plugin that is slow is named in the log."""
        if process.stdout is None or process.stderr is None:
            raise AssertionError("started with pipes")
        chunks: list[bytes] = []
        reading = asyncio.gather(
            _drained(process.stdout, chunks.append),
            _drained(process.stderr, lambda chunk: _heard(chunk, said, is_shown)),
        )
        ending = asyncio.ensure_future(_exited(process))
        try:
            done, _ = await asyncio.wait({ending}, timeout=_NOTICE_SECONDS)
            if not done:
                log.warning("credential_plugin.slow", plugin=self.command, words=_joined(said))
                await asyncio.shield(ending)
            await asyncio.wait({reading}, timeout=_LEFTOVER_SECONDS)
        finally:
            reading.cancel()
            ending.cancel()
            with suppress(asyncio.CancelledError):
                await reading
        return b"".join(chunks)

    def _hint(self) -> str:
        return f". {self.install_hint}" if self.install_hint else ""


def parse(user: Mapping[str, Any], cluster: Mapping[str, Any], *, origin: str) -> CredentialPlugin | None:
    """Return the plugin of a kubeconfig's user, None where it has none, or has a token, which wins.

    InvalidConfigurationError, which begins with `origin`, where it is not written as Kubernetes expects it.
    """
    found = user.get("exec")
    if found is None or user.get("token") or user.get("tokenFile"):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("command"), str) or not found["command"]:
        raise InvalidConfigurationError(f"{origin}: exec: expected a mapping with a command")
    api_version = found.get("apiVersion")
    if api_version not in _API_VERSIONS:
        raise InvalidConfigurationError(
            f"{origin}: exec.apiVersion: expected {' or '.join(_API_VERSIONS)}, found {api_version}"
        )
    mode = found.get("interactiveMode") or "IfAvailable"
    if mode not in _INTERACTIVE_MODES:
        raise InvalidConfigurationError(
            f"{origin}: exec.interactiveMode: expected {', '.join(_INTERACTIVE_MODES)}, found {mode}"
        )
    try:
        environment = {str(one["name"]): str(one.get("value") or "") for one in found.get("env") or ()}
        arguments = tuple(str(argument) for argument in found.get("args") or ())
    except (TypeError, KeyError, AttributeError) as error:
        raise InvalidConfigurationError(f"{origin}: exec: args is a list, env is a list of {{name, value}}") from error
    return CredentialPlugin(
        found["command"],
        arguments,
        environment,
        api_version,
        mode,
        str(found.get("installHint") or "").strip(),
        cluster_info(cluster, origin=origin) if found.get("provideClusterInfo") is True else None,
    )


def cluster_info(cluster: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    """Return spec.cluster of the ExecCredential for a kubeconfig's cluster, its extension as `config`."""
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
    info = {
        name: cluster[name] for name in (*names, "disable-compression") if cluster.get(name) not in (None, "", False)
    }
    if "certificate-authority-data" not in info and (path := cluster.get("certificate-authority")):
        try:
            info["certificate-authority-data"] = base64.b64encode(Path(path).read_bytes()).decode()
        except OSError as error:
            raise InvalidConfigurationError(f"{origin}: certificate-authority: {error}") from error
    for extension in cluster.get("extensions") or ():
        if isinstance(extension, dict) and extension.get("name") == EXTENSION:
            info["config"] = extension.get("extension")
    return info


def credential(output: bytes, *, api_version: str, now: float) -> Credential:  # noqa: C901 - one check a line
    """Return the ExecCredential in `output`; ValueError says what is wrong with it, in words that follow `but`."""
    if len(output) > _MOST_OUTPUT_BYTES:
        raise ValueError(f"it printed more than {_MOST_OUTPUT_BYTES} bytes")
    try:
        found = json.loads(output)
    except (ValueError, RecursionError) as error:
        raise ValueError("it printed no JSON; expected an ExecCredential") from error
    if not isinstance(found, dict) or found.get("kind", "ExecCredential") != "ExecCredential":
        raise ValueError("it printed no ExecCredential")
    if found.get("apiVersion") != api_version:
        raise ValueError(f"it answered in {found.get('apiVersion')}; the kubeconfig says {api_version}")
    status = found.get("status")
    if not isinstance(status, dict):
        raise ValueError(  # noqa: TRY004 - the caller catches one kind
            "its ExecCredential has no status"
        )
    fields = [
        status.get(name) or "" for name in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
    ]
    if not all(isinstance(one, str) for one in fields):
        raise ValueError("the fields of its status are no strings")
    token, certificate, key, expiration = (str(one) for one in fields)
    if bool(certificate) != bool(key):
        raise ValueError("it returned only one of clientCertificateData and clientKeyData")
    if not token and not certificate:
        raise ValueError("it returned neither a token nor a client certificate")
    if not expiration:
        return Credential(token, certificate, key)
    try:
        expires_at = datetime.fromisoformat(expiration).timestamp()
    except ValueError as error:
        raise ValueError(f"its expirationTimestamp {expiration} is no RFC 3339 time") from error
    return Credential(token, certificate, key, expires_at - min(_RENEWED_BEFORE_SECONDS, max(expires_at - now, 0) / 5))


async def _started(*command: str, **arguments: Any) -> asyncio.subprocess.Process:  # noqa: ANN401 - those of asyncio
    """Start it; cancelled meanwhile, end it: asyncio would wait for children that it does not end."""
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **arguments))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _ended(await starting)
        raise


async def _drained(stream: asyncio.StreamReader, take: Callable[[bytes], object]) -> None:
    taken = 0
    while chunk := await stream.read(65536):
        if taken <= _MOST_OUTPUT_BYTES:  # what is more is read, and dropped
            take(chunk)
        taken += len(chunk)


def _heard(chunk: bytes, said: deque[str], is_shown: bool) -> None:  # noqa: FBT001 - a callback's argument
    said.extend(line.strip()[:500] for line in chunk.decode(errors="replace").splitlines() if line.strip())
    if is_shown:
        sys.stderr.write(chunk.decode(errors="replace"))
        sys.stderr.flush()


def _joined(said: deque[str]) -> str:
    return " / ".join(said)


def _quoted(words: str) -> str:
    return f": {words}" if words else ""


async def _exited(process: asyncio.subprocess.Process) -> None:
    """Wait until the process ends. asyncio's own `wait` may also wait for its pipes, which a child keeps open."""
    while process.returncode is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_LOOK_SECONDS)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a plugin that still runs, with its children: they are one process group."""
    try:
        if process.returncode is None:
            await _killed(process)
    finally:
        # A child may keep the pipes open; asyncio has no public way to close our ends.
        process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001


async def _killed(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(_exited(process), _GRACE_SECONDS)
    except TimeoutError:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await _exited(process)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _foreground(group: int) -> Iterator[None]:
    """Give the terminal to the plugin's process group, and take it back: otherwise it is stopped when it reads."""
    terminal = sys.stdin.fileno()
    previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        before = os.tcgetpgrp(terminal)
        attributes = termios.tcgetattr(terminal)
        with suppress(OSError):
            os.tcsetpgrp(terminal, group)
            os.killpg(group, signal.SIGCONT)
        try:
            yield
        finally:
            with suppress(OSError, termios.error):
                os.tcsetpgrp(terminal, before)
                termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)
    finally:
        signal.signal(signal.SIGTTOU, previous)
