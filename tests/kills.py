"""A real run, killed (-9) at random moments until it ends: nothing is lost, and the bytes of an unbroken one come.

python tests/kills.py [--kills 30] [--seed 0]

Also: two runs at once in one folder, a folder on a full disk, and a read-only one. The last two need a mount.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOGGED = """
import os

import numpy as np


def logged(contexts):
    with open(os.environ["MDBENCH_KILLS_LOG"], "a") as file:
        file.write("x")
    return np.full((len(contexts), 3), 1 / 3) + 1e-6 * contexts[:, :3]
"""
N_CHUNKS = 2 * 4  # lengths, chunks of 256 sequences


def command(folder: Path, work: Path) -> list[str]:
    """A run of a few seconds: gold by two routes, a predictor that compiles, and one from a file."""
    arguments = ["--task", "mtd-q3-m2", "--lengths", "16,48", "--n-sequences", "1024", "--json", "--no-references"]
    predictors = ["--predictor", f"{folder / 'logged.py'}:logged", "--predictor", "md2", "--predictor", "bayes"]
    return [sys.executable, "-m", "mdbench", "evaluate", *predictors, *arguments, "--no-cache", "--work", str(work)]


def start(folder: Path, work: Path) -> subprocess.Popen:
    environment = os.environ | {"MDBENCH_KILLS_LOG": str(folder / "log")}
    environment["PYTHONPATH"] = ""
    return subprocess.Popen(
        command(folder, work), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=folder
    )


def finish(process: subprocess.Popen) -> tuple[str, str]:
    """Results as text, times aside, and what stood on stderr."""
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {err.decode()}")
    found = json.loads(out)
    for result in found["results"]:
        result.pop("seconds")
    return json.dumps(found), err.decode()


def killed(n_kills: int, seed: int, folder: Path, say=print) -> None:
    """Kill until so many have met a running process; each time the folder's run ends it is compared, and begun anew."""
    rng = random.Random(seed)
    log = folder / "log"
    unbroken, _ = finish(start(folder, folder / "unbroken"))  # which compiles
    started = time.monotonic()
    assert finish(start(folder, folder / "again"))[0] == unbroken
    longest = time.monotonic() - started
    done = ended = 0
    while done < n_kills:
        work = folder / f"work{ended}"
        log.write_text("")
        kills_here = 0
        while True:
            process = start(folder, work)
            try:
                process.wait(rng.uniform(0.3, 1.0) * longest if done < n_kills else 600)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                done, kills_here = done + 1, kills_here + 1
                continue
            assert finish(process)[0] == unbroken, "another result after a kill"
            break
        computed = len(log.read_text())
        assert N_CHUNKS <= computed <= N_CHUNKS + kills_here, f"{computed} chunks computed, {kills_here} kills"
        left = list(work.rglob(".mdbench-*"))
        assert not left, f"left over: {left}"
        ended += 1
        say(f"run {ended}: {kills_here} kills, {computed} of {N_CHUNKS} chunks computed, same bytes")


def two_at_once(folder: Path) -> None:
    unbroken, _ = finish(start(folder, folder / "unbroken"))
    both = [start(folder, folder / "both") for _ in range(2)]
    assert [finish(process)[0] for process in both] == [unbroken] * 2


@contextlib.contextmanager
def mounted(folder: Path, *options: str):
    """A mount there; a CalledProcessError or FileNotFoundError where none can be made."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(folder: Path) -> None:
    unbroken, _ = finish(start(folder, folder / "unbroken"))
    with mounted(folder / "full", "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        found, said = finish(start(folder, folder / "full"))
        assert found == unbroken
        assert said.count("cells cannot be kept in") >= 1, said
        for path in (folder / "full").rglob("*"):
            assert not path.name.startswith(".mdbench-"), path
    assert "Traceback" not in said


def read_only(folder: Path) -> None:
    unbroken, _ = finish(start(folder, folder / "unbroken"))
    for cell in list((folder / "unbroken").rglob("answers/*.cell"))[::2]:
        cell.unlink()
    (folder / "ro").mkdir()
    with mounted(folder / "ro", "--bind", str(folder / "unbroken")):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder / "ro")], check=True, capture_output=True)
        found, said = finish(start(folder, folder / "ro"))
    assert found == unbroken
    assert "cannot be written" in said, said


def prepared(folder: Path) -> Path:
    (folder / "logged.py").write_text(LOGGED)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    checks = {
        "kills": lambda folder: killed(arguments.kills, arguments.seed, folder),
        "two at once": two_at_once,
        "a full disk": full_disk,
        "a read-only folder": read_only,
    }
    for name, check in checks.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(prepared(Path(folder)))
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                print(f"{name}: not tried, nothing can be mounted here ({error})")
                continue
        print(f"{name}: holds")


if __name__ == "__main__":
    main()
