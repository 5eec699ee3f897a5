"""Plant each fault in a copy of the tree, and see `make test` catch it.

python tests/planted/plant.py [--revision REVISION] [--whole] [NAME ..]

Each patch beside this file names the fault and the test files of `make test` that are to catch it; with --whole all of
`make test` runs. The folder of a revision has those that fit it. Exit code 1 if a fault passes, or
if what is to catch it fails without it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WHOLE = "the whole suite"


def caught(copy: Path, files: list[str]) -> tuple[bool, str]:
    """Whether these tests fail there, and the first that does."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-n", "2", "--dist", "loadfile", *files]
    environment = os.environ | {"PYTHONPATH": str(copy / ".as_installed")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failed:  # xdist ends with 2 where -x stops it
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return bool(failed), failed[0].split(" - ")[0].partition(" ")[2] if failed else ""


def copy_of(revision: str | None, folder: Path) -> Path:
    """The tree of a revision, or the tracked files as they are now, importable as mdbench before what is installed."""
    copy = folder / "tree"
    copy.mkdir()
    if revision:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x"], cwd=copy, input=archive, check=True)
    else:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        packed = subprocess.run(
            ["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=names, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x"], cwd=copy, input=packed.stdout, check=True)
    installed = copy / ".as_installed" / "mdbench"
    installed.parent.mkdir()
    installed.symlink_to(copy / "mdbench")
    for name in ("tasks", "baselines"):  # beside the other modules, as in a wheel
        (copy / "mdbench" / name).symlink_to(copy / name)
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="faults; all if none")
    parser.add_argument("--revision", help="plant in that revision, not in the tree as it is")
    parser.add_argument("--whole", action="store_true", help="run all of `make test`")
    arguments = parser.parse_args()
    there = HERE / (arguments.revision or "")  # what a patch changes stood elsewhere then
    patches = sorted(p for p in there.glob("*.patch") if not arguments.names or p.stem in arguments.names)
    passed = []
    for patch in patches:
        what, catchers = patch.read_text(encoding="utf-8").splitlines()[:2]
        files = [] if arguments.whole else catchers.removeprefix("caught by: ").split()
        with tempfile.TemporaryDirectory() as folder:
            copy = copy_of(arguments.revision, Path(folder))
            subprocess.run(["git", "apply", "--unidiff-zero", "-C0", str(patch)], cwd=copy, check=True)
            found, first = caught(copy, files)
        print(f"{patch.stem} ({what}): {f'caught by {first}' if found else 'NOT CAUGHT'}", flush=True)
        if not found:
            passed.append(patch.stem)
    if passed:
        raise SystemExit(f"not caught: {', '.join(passed)}")


if __name__ == "__main__":
    main()
