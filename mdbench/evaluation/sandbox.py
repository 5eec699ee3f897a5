"""What an isolated process may see and use: a sandbox by bubblewrap, and how much memory all of it takes.

In the sandbox there is a file system of what Python and the predictor need, read-only: system libraries, the
interpreter with its packages, and what the predictor's name points at. There are no caches, no board, no home. It has
user, process, network, IPC and mount namespaces of its own, no capabilities, and nothing outlives it.
docs/trust.md says what that proves and what it does not.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from mdbench.core.errors import InputError
from mdbench.core.files import cache_folder

TMPFS = 2**30  # bytes of each of its file systems in memory

SCRATCH = "/scratch"  # its own, for what is written; one of the predictor's folders may lie in /tmp

WRITABLE = (SCRATCH, "/tmp", "/dev/shm")

MOST_PROCESSES = 512

INIT = "__init__.py"

MOST_HIDDEN = 2000  # files and folders that must be hidden one by one

MOST_FOLDERS = 20_000  # that are looked through for them

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/opt")

SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "ssl", "passwd", "group")
"""Of /etc; the rest is not there."""

PROCESSORS = "/sys/devices/system"  # by which libraries count them

OWN = ("mdbench", "mdbench.tasks", "mdbench.baselines")  # packages, of which a checkout's folder is not shown whole

NAMESPACES = [f"--unshare-{kind}" for kind in ("user", "pid", "net", "ipc", "uts")]

WALLS = [*NAMESPACES, "--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session"]

NOBODY = ["--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]


@functools.cache
def missing() -> str | None:
    """Why there is no sandbox here, in a few words; None where there is one."""
    if shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    trial = [*_bwrap(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", sys.executable, "-c", ""]
    try:
        tried = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap (bwrap) does not work here: {error}"
    if tried.returncode:
        return f"bubblewrap (bwrap) does not work here: {tried.stderr.decode(errors='replace').strip()[:200]}"
    return None


def _bwrap() -> list[str]:
    return ["bwrap", *WALLS, *NOBODY]


def command(shown: Iterable[Path], device: str) -> list[str]:
    """What a command begins with to run in the sandbox, where ``shown`` files and folders can be read too.

    The first is the name of the program, the last ``--``; bubblewrap takes those between from a file too (``--args``).
    """
    arguments = [*_bwrap(), "--proc", "/proc", *_of_the_kernel(), "--dev", "/dev"]
    for place in WRITABLE:
        arguments += ["--size", str(TMPFS), "--tmpfs", place]
    for place in (*SYSTEM, PROCESSORS, *(f"/etc/{name}" for name in SETTINGS)):
        arguments += ["--ro-bind-try", place, place]
    if device != "cpu":
        arguments += ["--ro-bind", "/sys", "/sys"]
        for path in sorted(Path("/dev").glob("nvidia*")):
            arguments += ["--dev-bind", str(path), str(path)]
    for path in [*_projects(), *shown]:
        arguments += _bound(path)
    for path in _installed():
        arguments += ["--ro-bind", str(path.resolve()), str(path)]
    where = os.getcwd()
    arguments += ["--dir", where, "--chdir", where, "--setenv", "HOME", SCRATCH, "--setenv", "TMPDIR", SCRATCH]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--"]


def shown_for(target: str, options: Iterable[object]) -> list[Path]:
    """Files and folders that a predictor's target (``FILE.py:function`` is one) and its options name."""
    file, paths = target.rpartition(":")[0], []
    if file.endswith(".py"):
        for place in dict.fromkeys([Path(file).absolute(), Path(file).resolve()]):
            if _is_crowded(place.parent):
                paths += [path for path in place.parent.iterdir() if path.suffix == ".py" or (path / INIT).exists()]
            else:
                paths.append(place.parent)  # where its own imports are, and its data
    for option in options:
        if isinstance(option, str) and os.path.exists(option):
            paths += [Path(option).absolute(), Path(option).resolve()]
    return list(dict.fromkeys(paths))


def _is_crowded(folder: Path) -> bool:
    """Whether a folder is a home, or where everybody keeps files: of it only what can be imported is shown."""
    return folder in (Path.home(), Path(folder.anchor)) or bool(folder.stat().st_mode & stat.S_ISVTX)


def _installed() -> list[Path]:
    """The interpreter, its packages, and our own."""
    paths = [Path(sys.prefix), Path(sys.base_prefix)]
    paths += [Path(entry) for entry in sys.path if Path(entry).is_dir() and _is_of_packages(Path(entry))]
    for package in OWN:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            paths += [Path(place), Path(place).resolve()]  # a link to it, and where that leads
    paths = [path.absolute() for path in dict.fromkeys(paths)]
    return [path for path in paths if not any(path != other and path.is_relative_to(other) for other in paths)]


def _is_of_packages(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages") or folder.is_relative_to(sys.base_prefix)


def _projects() -> list[Path]:
    """Folders of packages that are installed from where their authors change them, and those of PYTHONPATH."""
    paths = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    for distribution in importlib.metadata.distributions():
        with contextlib.suppress(Exception):  # of any package, however broken
            if distribution.metadata["Name"] == "mdbench":
                continue
            origin = json.loads(distribution.read_text("direct_url.json") or "{}")
            if origin["dir_info"]["editable"]:
                paths.append(Path(unquote(urlsplit(origin["url"]).path)))
    return [path for path in dict.fromkeys(paths) if path.is_dir() and path != Path(path.anchor)]


def _of_the_kernel() -> list[str]:
    """Settings of the machine in /proc read-only, and nothing of what is root's alone: who is root stays root there."""
    arguments = []
    for path in sorted(Path("/proc").iterdir()):
        if path.name.isdecimal() or path.is_symlink():
            continue
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) or mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
            arguments += ["--ro-bind-try", str(path), str(path)]
        if not stat.S_ISDIR(mode) and not mode & stat.S_IROTH:
            arguments += ["--ro-bind-try", "/dev/null", str(path)]
    return arguments


def _bound(path: Path) -> list[str]:
    """A file, or a folder without what is hidden in it and without boards."""
    if not path.is_dir():
        return ["--ro-bind", str(path.resolve()), str(path)]
    if path == Path(path.anchor):
        raise InputError("a predictor that is isolated cannot lie in '/': put it in a folder of its own.")
    arguments = ["--ro-bind", str(path.resolve()), str(path)]
    for n, hidden in enumerate(_to_hide(path), start=1):
        if n > MOST_HIDDEN:
            raise InputError(f"'{path}' has too many hidden files to isolate what is in it: put it elsewhere.")
        if hidden.is_dir(follow_symlinks=False):
            arguments += ["--size", "4096", "--tmpfs", hidden.path, "--remount-ro", hidden.path]
        elif hidden.is_file(follow_symlinks=False):
            arguments += ["--ro-bind", "/dev/null", hidden.path]
    return arguments


def _to_hide(path: Path) -> Iterator[os.DirEntry[str]]:
    """What a folder has of hidden files and folders, boards and our cache, at any depth."""
    cache = cache_folder().resolve()
    waiting = [path]
    for n in itertools.count(1):
        if not waiting:
            return
        if n > MOST_FOLDERS:
            raise InputError(
                f"'{path}' has more than {MOST_FOLDERS} folders: isolate what is in it from another place."
            )
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.name.startswith(".") or (
                    is_folder and (Path(entry.path, "records").is_dir() or Path(entry.path).resolve() == cache)
                ):
                    yield entry
                elif is_folder:
                    waiting.append(Path(entry.path))


# ---------------------------------------------------------------------------------------------------------- memory


def memory_of(pid: int) -> tuple[int, int]:
    """Bytes that a process and all its descendants hold, and how many they are.

    Counted are resident pages, files in memory that nobody has mapped (memfd), and what lies in the sandbox's /tmp and
    /dev/shm.

    Raises:
        psutil.Error: it has ended.
    """
    first = psutil.Process(pid)
    processes = [first, *first.children(recursive=True)]
    resident, mapped = 0, 0
    shared: dict[tuple[int, int], int] = {}
    own_places: dict[int, int] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            used = process.memory_info()
            resident += used.rss
            mapped += getattr(used, "shared", 0)
            shared |= dict(_memory_files(process.pid))
            own_places |= dict(_tmpfs_of(process.pid))
    return resident + max(0, sum(shared.values()) - mapped) + sum(own_places.values()), len(processes)


def _memory_files(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Which files in memory a process has open, and their bytes."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if "memfd:" in os.readlink(entry.path):
                    about = os.stat(entry.path)
                    yield (about.st_dev, about.st_ino), about.st_blocks * 512


def _tmpfs_of(pid: int) -> Iterator[tuple[int, int]]:
    """The sandbox's own file systems in memory, as a process sees them, and their bytes."""
    for place in WRITABLE:
        with contextlib.suppress(OSError):
            path = f"/proc/{pid}/root{place}"
            there = os.statvfs(path)
            if there.f_blocks * there.f_frsize == TMPFS:
                yield os.stat(path).st_dev, (there.f_blocks - there.f_bfree) * there.f_frsize


class MemoryGroup:
    """A memory cgroup of its own for a process and all that it starts, where one can be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, limit: int) -> MemoryGroup | None:
        """One with a limit in bytes, below or beside the group that this process is in; None where that is not ours."""
        for parent, name in _group_places():
            folder = parent / f"mdbench-{os.getpid()}-{uuid.uuid4().hex[:12]}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / name).write_text(str(limit))
                return cls(folder)
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return None

    def command(self) -> list[str]:
        """What a command begins with to run in the group."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs")]

    @property
    def overflowed(self) -> bool:
        """Whether something in it was ended for its memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                found = re.search(r"^oom_kill (\d+)", (self.folder / name).read_text(), re.MULTILINE)
                if found:
                    return int(found[1]) > 0
        return False

    def remove(self) -> None:
        """Once its processes have ended."""
        for _ in range(20):
            try:
                self.folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.05)


def _group_places() -> Iterator[tuple[Path, str]]:
    """Folders in which a memory cgroup may be made, and what its limit is called there."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "memory":
                yield Path("/sys/fs/cgroup/memory", path.lstrip("/")), "memory.limit_in_bytes"
            elif not controllers:  # of version 2, where a group with processes in it has no groups below it
                yield Path("/sys/fs/cgroup", path.lstrip("/")).parent, "memory.max"
