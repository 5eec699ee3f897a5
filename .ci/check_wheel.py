"""Fail unless a wheel holds every module and data file of the tree, and mdbench is its only top-level name.

python .ci/check_wheel.py ROOT WHEEL
"""

import subprocess
import sys
import zipfile

root, wheel = sys.argv[1:]
tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
homes = {"mdbench/": "mdbench/", "tasks/": "mdbench/tasks/", "baselines/": "mdbench/baselines/"}
expected = {
    home + path.removeprefix(folder) for path in tracked for folder, home in homes.items() if path.startswith(folder)
}
with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    top_level = archive.read(next(name for name in names if name.endswith("top_level.txt"))).decode().split()
found = {name for name in names if ".dist-info/" not in name}
if top_level != ["mdbench"] or found != expected:
    sys.exit(f"top level {top_level}; missing {sorted(expected - found)}; too many {sorted(found - expected)}")
print(f"{len(found)} files, top level: mdbench")
