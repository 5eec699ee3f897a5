"""Claims as files: a figure and a table of numbers each, and one page in Markdown that tells them all."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from mdbench.claims.catalogue import MAIN, NAMES
from mdbench.claims.finding import Curve, Panel
from mdbench.claims.reproduction import Reproduced
from mdbench.core.errors import InputError
from mdbench.core.files import check_writable, json_ready, make_folder, read_json, write_text, write_whole
from mdbench.core.verdict import Verdict
from mdbench.core.wording import interval_text

JSON, PAGE, FOLDER = "claims.json", "claims.md", "claims"
BAND = 3  # training seeds from which there is one
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B", "#7F7F7F", "#B8860B")
LINE = 120  # characters of a line of prose
SENTENCE = re.compile(r"(?<=[\w)]\.) (?=[a-zA-Z])")  # where one ends
WIDTH, HEIGHT = 3.7, 3.1  # of a panel, in inches
PER_ROW = 3
MARKED = 20  # points, from which a curve has no marks
ASIDE = 1.7  # inches for a legend

COLUMNS = {  # of the files of numbers
    "`predictor`, `task`, `length`": "who predicted what; the length is T",
    "`n_sequences`": "over how many sequences the scores are means",
    "`seeds`": "how many training seeds are in the mean; of `weight_space` which two the line joins",
    "`seed`, `row`": "the training seed, alone or with the network's name",
    "`kl`, `excess_kl`": "mean scores in nats; ending in `_low` and `_high` the ends of their 95% intervals, "
    "in `_untouched` those of the network as it is",
    "`ratio`": "of two scores; of `smoothness` the largest constant over the theorem's, as `at_start` (at λ⁰) and "
    "`largest_on_grid` (over the simplex) are of each `sequence`, at `weight_of_lag_2`",
    "`largest_difference`": "of any two probabilities",
    "`alpha`, `eta`, `strength`, `error`": "prior, step size (of `adaptive_step` the effective one, in the "
    "mean over sequences), how much the rows of π differ (0 not at all, 1 as in the task), and the largest error of λ, "
    "in the mean over sequences",
    "`tuned`, `law`, `as_inverse_from`": "step sizes, tuned and by the law; the T from which the law goes as 1/T",
    "`layer`, `overlap`, `overlap_last`": "attention in common with the construction: of informative "
    "queries, of the last one",
    "`keys`, `rows`": "share of the information on π that is in W_A, over keys and over rows, each at the inverse "
    "temperature τ > 0 that suits it best (`tau_keys`, `tau_rows`, ..; the least one tried where the share is 0); "
    "`against` and `rows_against` in -W_A; `signed` and `signed_rows` the larger of both, negative if that is the one "
    "in -W_A",
    "`slope`, `low`, `high`": "of log effective step on log η_i, with its interval",
    "`basis`, `share`": "whether the second seed's weights were turned into the first one's basis; how much of them "
    "is in",
}

Entry = dict[str, Any]  # of claims.json
FIELDS = {"claim", "statement", "source", "rule", "verdict", "estimate", "interval", "unit", "seeds", "says"}
FIELDS |= {"device", "seconds", "command", "fast"}


class Writer:
    """Files of claims in a folder, whole after each one; what other claims left there stays.

    Raises:
        InputError: they cannot be written, or what is there is no list of claims.
    """

    def __init__(self, out: str | Path, command: str) -> None:
        self.out, self.command = make_folder(Path(out)), command
        make_folder(self.out / FOLDER)
        for name in (JSON, PAGE):
            check_writable(self.out / name)
        self.entries = {entry["claim"]: entry for entry in entries_of(self.out)}

    def add(self, reproduced: Reproduced, fast: bool) -> None:
        """The figure, the numbers and the verdict of one more."""
        path = self.out / FOLDER / reproduced.name
        write_figure(draw(reproduced.finding.panels), path)
        write_text(path.with_suffix(".csv"), _as_csv(reproduced.finding.rows))
        self.entries[reproduced.name] = reproduced.to_dict() | {"command": self.command, "fast": fast}
        entries = [self.entries[name] for name in NAMES if name in self.entries]
        write_text(self.out / JSON, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
        write_text(self.out / PAGE, render(entries))


def entries_of(out: Path) -> list[Entry]:
    """Those that stand in a folder.

    Raises:
        InputError: what is there is no list of claims.
    """
    path = out / JSON
    if not path.is_file():
        return []
    entries = read_json(path, "file of claims")
    whole = isinstance(entries, list) and all(isinstance(e, dict) and e.keys() >= FIELDS for e in entries)
    if not whole or not all(e["claim"] in NAMES for e in entries):
        raise InputError(f"'{path}' is no list of claims as `mdbench reproduce` writes it; name another folder.")
    return entries


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(json_ready(dict(row)) for row in rows)
    return text.getvalue()


# ------------------------------------------------------------------------------------------------------------- the page


def number(entry: Entry) -> str:
    """The estimate with its interval."""
    estimate = entry["estimate"]
    text = f"{estimate:.3g}" if isinstance(estimate, int | float) else str(estimate)
    return text if entry["interval"] is None else f"{text} ({interval_text(tuple(entry['interval']))})"


def render(entries: Sequence[Entry]) -> str:
    """The page of some claims."""
    count = {verdict: sum(e["verdict"] == verdict for e in entries) for verdict in Verdict}
    made_by = ", some again by ".join(dict.fromkeys(f"`{entry['command']}`" for entry in entries))
    lines = [
        "# The claims, and what became of them",
        "",
        *_paragraph(
            f"{len(entries)} claims: {count[Verdict.HOLDS]} hold, {count[Verdict.FAILS]} fail, "
            f"{count[Verdict.UNDECIDED]} undecided. Each is an experiment, with a rule that says what decides it. A "
            "claim leads to its number, its rule, its figure and the command that repeats it. That reads the shipped "
            "weights and trains none; [to train them again](guides/training.md)."
        ),
        "",
        "| | claim | verdict |",
        "|---|---|---|",
    ]
    for entry in entries:
        name, statement = entry["claim"], entry["statement"].removesuffix(".")
        lines.append(f"| ({_letter(entry)}) `{name}` | [{statement}](#{name}) | **{entry['verdict']}** |")
    lines += [
        "",
        "| word | meaning |",
        "|---|---|",
        "| excess KL | distance to the Bayes-optimal prediction, in nats |",
        "| KL to the truth | the paper's scale: it adds what gold has, and the noise of the λ that was drawn |",
        "| `trained_l3`, `paper_l3`, .. | trained networks, [by name](trained_weights.md) |",
        "| W_A | the attention matrix of layer 1; the construction has (log π)ᵀ there "
        "([more](inside.md#w_a-and-the-papers-number)) |",
        "| undecided | neither the claim nor its opposite is shown |",
        "| ratio | of mean excess KL; over several cells (a task at one T) the geometric mean of theirs |",
        "| interval | of 95%; where training seeds count they are few, so intervals are wide |",
        "",
        *_paragraph(
            "Rules stood before the experiments were run. After a first run a review made equality a matter of each "
            "task, where it had been one of their mean. How each claim is run: mdbench/claims/, a file each. Made by "
            f"{made_by}; `--fast` does it on one task with fewer sequences."
        ),
    ]
    if any(entry["claim"] == MAIN for entry in entries):
        lines += ["", f"![The main figure]({FOLDER}/{MAIN}.svg)"]
    for entry in entries:
        name = entry["claim"]
        seeds = f"; {entry['seeds']} training seeds" if entry["seeds"] else ""
        lines += [
            "",
            f"## {name}",
            "",
            *_paragraph(f"({_letter(entry)}) {entry['statement']} **{entry['verdict'].capitalize()}.**"),
            "",
            *(line for sentence in SENTENCE.split(entry["says"]) for line in _paragraph(sentence, "- ")),
            "",
            "| | |",
            "|---|---|",
            f"| number | {number(entry)}, {entry['unit']}{seeds} |",
            f"| rule | {entry['rule']} |",
            f"| source | {entry['source']} |",
            f"| again | `mdbench reproduce {name} --out DIR`, {_seconds(entry)} on {entry['device']} |",
            f"| all numbers | [{name}.csv]({FOLDER}/{name}.csv) ([columns](#columns-of-the-files)) |",
        ]
        if name != MAIN:
            lines += ["", f"![{name}]({FOLDER}/{name}.svg)"]
    lines += ["", "## Columns of the files", "", "| column | what it is |", "|---|---|"]
    lines += [f"| {names} | {meaning} |" for names, meaning in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def _seconds(entry: Entry) -> str:
    n = round(entry["seconds"])
    return f"{n} seconds" if n > 1 else "a second"


def _letter(entry: Entry) -> str:
    return ascii_lowercase[NAMES.index(entry["claim"])]


def _paragraph(text: str, mark: str = "") -> list[str]:
    indent = " " * len(mark)
    return textwrap.wrap(
        text, LINE, initial_indent=mark, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


# ------------------------------------------------------------------------------------------------------------ figures


def write_figure(figure: Figure, path: Path) -> None:
    """As .svg and .png beside each other; the same numbers give the same .svg."""
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
            save = functools.partial(figure.savefig, format=kind, dpi=110, metadata=metadata)
            write_whole(path.parent / f"{path.name}.{kind}", save)
            figure.set_layout_engine("none")  # laid out once is enough


def draw(panels: Sequence[Panel]) -> Figure:
    """Panels side by side."""
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8, "svg.fonttype": "path"}):
        n = len(panels)
        columns = min(n, PER_ROW)
        rows = -(-n // columns)
        labels = list(dict.fromkeys(c.label for panel in panels for c in panel.curves if c.label))
        width = WIDTH * columns + (ASIDE if labels else 0)
        figure = Figure(figsize=(width, HEIGHT * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        colours = {label: COLOURS[k % len(COLOURS)] for k, label in enumerate(labels)}
        for ax, panel in zip(axes, panels, strict=False):
            _draw_panel(ax, panel, colours)
        if labels:  # beside the panels, where it hides nothing
            handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
            figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=6)
        for ax in axes[n:]:
            ax.set_axis_off()
    return figure


def _draw_panel(ax: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.image is not None:
        ax.figure.colorbar(ax.imshow(panel.image, cmap="cividis", vmin=0), ax=ax, shrink=0.8)
        return
    colour = COLOURS[0]
    for curve in panel.curves:
        colour = colours.get(curve.label, colour)  # what has no name goes with the one before
        _draw_curve(ax, curve, colour)
    if panel.log_x:
        ax.set_xscale("log", base=panel.log_x)
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    if panel.log_y:
        ax.set_yscale("log")


def _draw_curve(ax: Axes, curve: Curve, colour: str) -> None:
    few = curve.seeds is not None and curve.seeds < BAND
    ranges = None if curve.band is None else (np.array(curve.band[0]), np.array(curve.band[1]))
    words = isinstance(curve.x[0], str)
    if words and not curve.dashed:
        error = None if ranges is None else [np.array(curve.y) - ranges[0], ranges[1] - np.array(curve.y)]
        ax.errorbar(curve.x, curve.y, error, fmt="o", color=colour, label=curve.label or None, markersize=3)
        ax.tick_params(axis="x", labelrotation=90, labelsize=6)
        return
    label = f"{curve.label} (one seed)" if curve.seeds == 1 else curve.label
    style = ("--" if curve.dashed else "-") + ("o" if len(curve.x) < MARKED and not words else "")
    above = 3 if curve.dashed else 2  # what others are held against is seen where both are the same
    width = 0.7 if few or curve.dashed else 1.4
    ax.plot(curve.x, curve.y, style, color=colour, label=label or None, linewidth=width, markersize=2.5, zorder=above)
    if ranges is not None and not few:
        ax.fill_between(curve.x, *ranges, color=colour, alpha=0.2, linewidth=0)
