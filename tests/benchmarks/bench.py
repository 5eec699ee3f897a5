"""How fast mdbench is: one command, one table of ratios and growth rates, each measured in turn in this run.

    make bench                                          all of it, and what has changed since the stored run
    python tests/benchmarks/bench.py --only nuts start  some
    python tests/benchmarks/bench.py --write            store it (bench.json), and show it in docs/performance.md
    python tests/benchmarks/bench.py --page             the page again from what is stored; measures nothing

How to read it: docs/performance.md. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module

import report
from measuring import Row, alone

from mdbench.core.errors import InputError
from mdbench.core.files import check_writable, write_text
from mdbench.pages.bars import progress_bars

BENCHMARKS = {  # name: module and function, whose rows it is; each runs in a process of its own
    "nuts": ("exact", "against_nuts"),
    "jax": ("exact", "against_plain_jax"),
    "products": ("exact", "against_matrix_products"),
    "growth": ("exact", "how_cost_grows"),
    "harness": ("harness", "mirror_descent"),
    "evaluate": ("harness", "evaluation"),
    "start": ("harness", "start_up"),
    "training": ("training", "rows"),
}


def rows_of(name: str) -> list[Row]:
    """What a benchmark finds, measured in this process."""
    module, function = BENCHMARKS[name]
    return list(getattr(import_module(module), function)())


def measure(names: list[str]) -> tuple[report.Run, list[str]]:
    """These benchmarks, one after the other; and the names of those that failed, whose errors are on stderr."""
    busy = report.share_taken()
    if busy > report.BUSY:
        say(report.busy_sentence(busy))
    started = time.perf_counter()
    rows, failed = {}, []
    with progress_bars() as progress:
        advance = progress("benchmarks", len(names))
        for name in names:
            try:
                rows[name] = alone(rows_of, name)
            except Exception as error:  # the others have their figures all the same
                say(f"{name} failed: {type(error).__name__}: {error}")
                failed.append(name)
            advance(1)
    return report.run_of(rows, busy, time.perf_counter() - started), failed


def say(sentence: str) -> None:
    """A sentence on stderr beside the result."""
    print(f"bench: {sentence}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", action="store_true", help="store the run, and show it in docs/performance.md")
    parser.add_argument("--page", action="store_true", help="only show the stored run in docs/performance.md")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write stores a whole run; leave out --only.")
    try:
        if arguments.page:
            report.write_page(report.read_run(report.STORED))
            return
        for path in (report.STORED, report.PAGE) if arguments.write else ():
            check_writable(path)
        (run, failed), against = measure(arguments.only or list(BENCHMARKS)), None
        try:
            if report.STORED.exists():
                against = report.changes(report.read_run(report.STORED), run)
        except InputError as refusal:  # the new figures are there all the same
            say(str(refusal))
        print(json.dumps(report.as_json(run, against), indent=1) if arguments.json else report.table(run, against))
        if not arguments.json:
            print(f"\n{report.about(run)}")
        if failed:
            sys.exit(1)
        if arguments.write:
            write_text(report.STORED, report.to_json(run))
            report.write_page(run)
    except InputError as error:
        say(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
