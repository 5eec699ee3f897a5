"""The command line: arguments in, tables out. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated

import typer

from mdbench.cli import claims, mechanism, naming, posteriors, records, scoring, series, training  # noqa: F401  # in this order of help
from mdbench.cli.app import app, baseline_app, fail, leaderboard_app, task_app
from mdbench.core.errors import InputError, PredictorError, shown

app.add_typer(baseline_app, name="baseline")
app.add_typer(leaderboard_app, name="leaderboard")
app.add_typer(task_app, name="task")


def main() -> None:
    """Entry point: 2 for wrong usage, 1 for a failed run, one sentence on stderr for each."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("mdbench").setLevel(logging.INFO)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows λ as \u03bb
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="mdbench", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        fail(str(error), 2)
    except (PredictorError, FloatingPointError, ChildProcessError) as error:
        fail(str(error), 1)
    except BrokenPipeError:  # whoever read the output has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # of stdout, too: a disk that is full
        if error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where what is left of the output goes
        what = "the output cannot be written" if error.filename is None else shown(error.filename)
        fail(f"{what}: {error.strerror or error}.", 1)
    except MemoryError as error:
        fail(f"there is not enough memory for that{f': {error}' if str(error) else ''}; ask for less at a time.", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # the exceptions of Typer's own command line have it
            raise
        fail(error.format_message(), 2)
    if code == 130:  # what Typer makes of Ctrl-C
        fail("interrupted.", 130)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Whoever closed stderr gets no messages; whoever closed stdout is told that results have nowhere to go."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_WRONLY)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        print(f"mdbench {version('mdbench')}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
