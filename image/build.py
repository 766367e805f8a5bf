"""The files of the image's final stage, put together by the Python that runs this: `python image/build.py ROOT`.

The Dockerfile runs it in its first stage; the tests run it here, and the program from what it made. So what ships was
tried, although no image is built. Nothing but the standard library, pip, ldd and ldconfig is needed.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(__file__).resolve().parent.parent
PYTHON: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# What hatchling takes by itself where SOURCE_DATE_EPOCH says nothing: 2020-02-02.
EPOCH: Final = int(os.environ.get("SOURCE_DATE_EPOCH") or 1580601600)
USER: Final = 65532

# Of the standard library: tests, interactive tools, installers, and what needs more libraries of the system.
LEFT_OUT: Final = (
    "__pycache__",
    "__phello__",
    "config-*",
    "curses",
    "dbm",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "sqlite3",
    "test",
    "tests",
    "tkinter",
    "turtle.py",
    "turtledemo",
    "venv",
    "_ctypes_test*.so",
    "_curses*.so",
    "_dbm*.so",
    "_gdbm*.so",
    "_sqlite3*.so",
    "_test*.so",
    "_tkinter*.so",
    "_xxtestfuzz*.so",
    "nis*.so",
    "readline*.so",
    "xx*.so",
)
# Of packages: tests, what is for compilers and type checkers, and an installer's notes: they hold this machine's paths.
NEEDLESS: Final = (
    "RECORD",
    "REQUESTED",
    "__pycache__",
    "direct_url.json",
    "test",
    "tests",
    "*.c",
    "*.h",
    "*.pxd",
    "*.pxi",
    "*.pyi",
    "*.pyx",
    "*_test.py",
)
# 70 MB of generated classes. cluster.py speaks JSON, and the client loads a class when it is named; the tests run
# against an API server without them.
UNUSED: Final = tuple(
    f"kubernetes/{part}" for part in ("client/api", "client/models", "aio/client/api", "aio/client/models")
)
# Where a runtime mounts. A kubeconfig with its certificates inside needs a /tmp that can be written: mount one there.
FOLDERS: Final = (
    "proc",
    "dev",
    "sys",
    "tmp",
    "etc/gardenlet/config",
    "etc/seccomp-reconciler/client-ca",
    "etc/seccomp-reconciler/config",
    "etc/seccomp-reconciler/tls",
    "var/run/secrets/kubernetes.io/serviceaccount",
)
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
FILES: Final = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


class BuildError(RuntimeError):
    """A command failed or something is missing; the message says what was run and what it said."""


def wheel(source: Path, folder: Path) -> Path:
    """Return the wheel of `source`, built in `folder` by the hatchling that constraints.txt pins."""
    tools = folder / "tools"
    _run([sys.executable, "-m", "venv", "--without-pip", str(tools)])
    _pip(tools, "install", "-c", str(source / "constraints.txt"), "hatchling")
    _pip(tools, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder / 'wheel'}", str(source))
    (built,) = (folder / "wheel").glob("*.whl")
    return built


def install(built: Path, source: Path, folder: Path) -> Path:
    """Return an environment with the wheel, what it needs, and nothing else."""
    environment = folder / "environment"
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    options = ["--no-compile", "--only-binary=:all:", "-c", str(source / "constraints.txt")]
    _pip(environment, "install", *options, str(built))
    return environment


def assemble(environment: Path, root: Path) -> None:
    """Fill `root` with an interpreter, the environment's packages, and the libraries of the system that they load."""
    prefix = root / "usr" / "local"
    library = prefix / "lib" / PYTHON
    base = Path(sys.base_prefix)
    (prefix / "bin").mkdir(parents=True)
    shutil.copy2(base / "bin" / PYTHON, prefix / "bin" / PYTHON)
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(PYTHON)
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    packages = environment / "lib" / PYTHON / "site-packages"
    shutil.copytree(packages, library / "site-packages", ignore=shutil.ignore_patterns(*NEEDLESS))
    for name in UNUSED:
        _empty(library / "site-packages" / name)
    _libraries(base, packages, root)
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / CERTIFICATES.relative_to("/")).parent.mkdir(parents=True)
    shutil.copy2(CERTIFICATES.resolve(), root / CERTIFICATES.relative_to("/"))
    _compile(root, library)
    _seal(root)


def files(root: Path) -> Iterator[Path]:
    """Return everything below `root` but folders, in one order."""
    for folder, _, names in sorted(os.walk(root)):
        yield from (Path(folder, name) for name in sorted(names))


def weigh(root: Path, *parts: str) -> int:
    """Return the bytes of all files below `root` (or of its part), as a layer holds them unpacked."""
    return sum(found.lstat().st_size for found in files(root.joinpath(*parts)) if not found.is_symlink())


def packed(root: Path, target: IO[bytes]) -> int:
    """Write `root` as the layer that a registry would keep, tar and gzip; return its bytes."""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=EPOCH, compresslevel=6) as stream,
        # GzipFile writes, which is all that tarfile asks for.
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w") as layer,
    ):
        layer.add(root, arcname=".", filter=_owned_by_root)
    return target.tell()


def report(root: Path) -> str:
    """Return what the tree weighs, in millions of bytes."""
    library = ("usr", "local", "lib", PYTHON)
    total, packages = weigh(root), weigh(root, *library, "site-packages")
    standard = weigh(root, *library) - packages
    with tempfile.TemporaryFile() as layer:
        small = packed(root, layer)
    rows = {
        "site-packages": packages,
        "standard library": standard,
        "interpreter, system libraries": total - packages - standard,
        "all, unpacked": total,
        "all, as a registry keeps it": small,
    }
    return "\n".join(f"{name:<30} {size / 1e6:6.1f} MB" for name, size in rows.items())


def _libraries(base: Path, packages: Path, root: Path) -> None:
    """Copy each library of the system that the interpreter or a module loads, and tell scanners whose it is."""
    prefix = root / "usr" / "local"
    owned: set[str] = set()
    for name in ("lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for library in _loaded(base, packages):
        if library.is_relative_to(base):  # libpython
            target = prefix / library.relative_to(base)
        else:
            target = root / library.parent.resolve().relative_to("/") / library.name
            owned |= _package(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.resolve(), target)
    _strip(
        [
            *(prefix / "bin").glob(PYTHON),
            *(prefix / "lib").glob("*.so*"),
            *(prefix / "lib" / PYTHON).rglob("lib-dynload/*"),
        ]
    )
    for package in sorted(owned):
        _record(package, root)
    configuration = root / "etc" / "ld.so.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("/usr/local/lib\n")
    _run([_program("ldconfig"), "-r", str(root)])
    shutil.rmtree(root / "var" / "cache", ignore_errors=True)


def _loaded(base: Path, packages: Path) -> list[Path]:
    """Return the libraries outside the two trees, and libpython: by asking ldd of each program and module."""
    standard = Path(sysconfig.get_path("stdlib"), "lib-dynload")
    ignored = shutil.ignore_patterns(*LEFT_OUT)(str(standard), [found.name for found in standard.iterdir()])
    modules = [found for found in standard.iterdir() if found.name not in ignored]
    modules += [found for found in packages.rglob("*.so*") if found.is_file()]
    output = _run(["ldd", str(base / "bin" / PYTHON), *map(str, sorted(modules))])
    missing = sorted(set(re.findall(r"(\S+) => not found", output)))
    if missing:
        raise BuildError(f"ldd does not find {', '.join(missing)}, which a module loads: install the library")
    found = {Path(os.path.normpath(path)) for path in re.findall(r"(/\S+) \(0x", output)}
    return sorted(path for path in found if not path.is_relative_to(packages))


def _strip(programs: list[Path]) -> None:
    """Take debug symbols out of the interpreter, where it has any: python's images come without, and have no strip."""
    if shutil.which("strip"):
        _run(["strip", "--strip-unneeded", *map(str, programs)])


@functools.cache
def _package(library: Path) -> frozenset[str]:
    """Return the Debian package that brought a file; nothing where the system is not Debian's."""
    for path in (library, library.resolve(), Path(f"/usr{library}"), Path(str(library.resolve()).removeprefix("/usr"))):
        try:
            said = _run(["dpkg", "-S", str(path)])
        except BuildError:
            continue
        return frozenset({said.partition(":")[0]})
    return frozenset()


def _record(package: str, root: Path) -> None:
    """Keep a package's entry where scanners of images without dpkg look for it, and its licence."""
    folder = root / "var" / "lib" / "dpkg" / "status.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / package).write_text(_run(["dpkg", "-s", package]))
    licence = Path("/usr/share/doc", package, "copyright")
    if licence.exists():
        target = root / licence.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(licence, target)


def _compile(root: Path, library: Path) -> None:
    """Compile everything ahead, never to be compared with its source again: the root is read-only at run time."""
    argv = [sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/"]
    _run([*argv, "--invalidation-mode=unchecked-hash", str(library)])


def _seal(root: Path) -> None:
    """Give everything to root, writable by nobody else, with one time."""
    everything = [root, *(Path(folder, name) for folder, folders, names in os.walk(root) for name in folders + names)]
    for path in everything:
        if os.geteuid() == 0:
            os.chown(path, 0, 0, follow_symlinks=False)
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def _empty(package: Path) -> None:
    """Leave of a package its __init__ alone, so that what looks into it still imports."""
    for found in package.iterdir():
        if found.name == "__init__.py":
            continue
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _pip(environment: Path, command: str, *arguments: str) -> None:
    options = ["--disable-pip-version-check", "--python", str(environment)]
    _run([sys.executable, "-m", "pip", *options, command, "--quiet", *arguments])


def _program(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or name


def _run(argv: list[str]) -> str:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{argv[0]} does not run: {error}") from error
    if done.returncode:
        raise BuildError(f"`{' '.join(argv[:8])} …` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def build(source: Path, root: Path, folder: Path) -> None:
    """Make the wheel of `source` and fill `root` with what runs it; `folder` is for what is needed on the way."""
    assemble(install(wheel(source, folder), source, folder), root)


def main() -> None:
    """Build into the folder that is given, else into a temporary one; print what it weighs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("root", nargs="?", type=Path, help="folder to fill, which must not exist; else only sizes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seccomp-image-") as folder:
        root: Path = arguments.root or Path(folder, "root")
        if root.exists():
            raise SystemExit(f"{root} exists; expected a folder that this program may make: remove it, or name another")
        root.mkdir(parents=True)
        build(SOURCE, root, Path(folder))
        print(report(root))  # noqa: T201 - what it was asked for


if __name__ == "__main__":
    main()
