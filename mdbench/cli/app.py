"""What all commands share: the application, the options that several take, and how results and errors go out."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from mdbench.core.errors import InputError, shown

app = typer.Typer(
    help="The benchmark suite for in-context inference in sequence models.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
baseline_app = typer.Typer(help="Posterior methods: how far they can be trusted.", no_args_is_help=True)
task_app = typer.Typer(help="Tasks of your own sequences.", no_args_is_help=True)
leaderboard_app = typer.Typer(help="Records to rankings.", no_args_is_help=True)

Tasks = Annotated[list[str] | None, typer.Option("--task", help="Task name or task file (.toml); repeat for several.")]
OneTask = Annotated[str, typer.Option("--task", help="Task name or task file (.toml).")]
Predictor = Annotated[
    str, typer.Argument(help="A predictor: NAME, NAME:option=value,option=value, run:FOLDER or FILE.py:NAME.")
]
Lengths = Annotated[str | None, typer.Option("--lengths", help="Context lengths, separated by commas.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[str, typer.Option("--device", help="torch device: cpu, cuda, ...")]
Gold = Annotated[
    str | None,
    typer.Option("--gold", help="Baseline to measure against, exact or passing its gates; the family's own if none."),
]
Suite = Annotated[str | None, typer.Option("--suite", help="Suite of tasks; core if neither this nor --task is given.")]
NSequences = Annotated[
    int | None, typer.Option("--n-sequences", help="Sequences for each task and length; 1024, or all recorded ones.")
]
Leaderboard = Annotated[Path, typer.Option("--leaderboard", help="Folder of the leaderboard: records/, index.html.")]
Reference = Annotated[
    str | None, typer.Option("--reference", help="With --record: a paper or DOI that the row refers to.")
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute all anew: what other commands kept in the cache does not count.")
]
OnCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Compute by processes of this machine (local, local:4) or by the workers of a Dask scheduler "
        "(tcp://10.0.0.5:8786); no number depends on it.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the sequences.")]
LEADERBOARD = Path("leaderboard")


def emit(as_json: bool, content: Callable[[], Any], show: Callable[[], None]) -> None:
    """The result of a command on stdout: its content as JSON, or what ``show`` prints."""
    if as_json:
        # Elsewhere what cannot be printed comes as escapes, and JSON has its own.
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print(json.dumps(content(), indent=1, ensure_ascii=not unicode, allow_nan=False))
    else:
        show()


SAYER = "mdbench: "
LONGEST = 300 - len(SAYER)  # characters of a sentence that ends a command


def fail(sentence: str, code: int) -> NoReturn:
    """End with a sentence on stderr, whatever somebody else wrote into it: printable, and not without an end."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence.replace("\n", " "))
    whole = len(text) <= LONGEST
    print(f"{SAYER}{text if whole else f'{text[: LONGEST // 2]} ... {text[5 - LONGEST // 2 :]}'}", file=sys.stderr)
    sys.exit(code)


def say(sentence: str) -> None:
    """A sentence on stderr beside the result."""
    print(f"{SAYER}{sentence}", file=sys.stderr)


def this_command() -> str:
    """For a page that says how it was made."""
    return shlex.join(["mdbench", *(argument for argument in sys.argv[1:] if argument != "--json")])


def cache_of(no_cache: bool) -> Literal["all", "none"]:
    """What the cache folder may answer (:data:`mdbench.core.store.Cache`)."""
    return "none" if no_cache else "all"


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """The numbers of an option, each once.

    Raises:
        InputError: they are not whole numbers separated by commas.
    """
    if text is None:
        return None
    try:
        if not re.fullmatch(r"[-+0-9, ]*", text):  # int() takes more
            raise ValueError
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(
            f"{option} takes whole numbers separated by commas, as in 1,2,16, not {shown(text)}."
        ) from None
