"""The tables of docs/inside.md: what `mdbench identify`, `inspect` and `patch` find in the shipped networks.

`python scripts/inside.py` takes half an hour of two cores; what was fitted once comes from the cache. With the name of
a table it makes that alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tables import Table, make, short

import mdbench
from mdbench.mechanism.identification import Identified

SMALL, LENGTHS = "mtd-q5-m3", (16, 32, 64, 128)
SHOWN = ("tokens_free", "tokens_sum_free", "md1_adaptive_tuned", "md1")
OTHERS = (
    ("paper_l3", SMALL, (16,), "md1"),
    ("conditional_l3", SMALL, (32,), "md1"),
    ("trained_l5", SMALL, LENGTHS, "md2"),
    ("trained_l3", "mtd-q3-m2", LENGTHS, "md1"),
    ("standard_l3", SMALL, (16, 32), "md1"),
    ("standard_l5", SMALL, (16, 32), "md1"),
)
REPLACED = (  # layer, part, by what
    (1, "attention", "its mean"),
    (3, "attention", "its mean"),
    (3, "attention", "the construction's"),
    (2, "attention", "the construction's"),
    (2, "attention", "its mean"),
    (2, "normaliser", "its mean"),
)


@functools.cache
def identified(name: str, task: str, lengths: Sequence[int]) -> list[Identified]:
    """Each training seed at each length; the other lengths are those that a fit is carried to."""
    return mdbench.identify(name, task=task, lengths=lengths).verdicts


@functools.cache
def matrices(name: str, task: str, length: int) -> list[tuple[float, float, float]]:
    """Of each seed of a disentangled network: slope of W_A against log π, its KL over keys, and over rows."""
    inside = [run.transition for run in mdbench.inspect(name, task=task, length=length).runs]
    return [(w.scale, w.kl_over_keys, w.kl_rows) for w in inside if w is not None]


def share(found: Identified, algorithm: str, interval: bool = False) -> str:
    """What an algorithm explains, in percent."""
    fit = found[algorithm]
    if fit.explained is None:
        return ""
    ends = "" if fit.explained_ci is None else " ({:.0f} .. {:.0f})".format(*(100 * end for end in fit.explained_ci))
    return f"{100 * fit.explained:.0f}%" + (ends if interval else "")


def slope(found: Identified) -> str:
    """Of the step."""
    return "" if found.adaptation is None else f"{found.adaptation.slope:.2f}"


def span(values: Sequence[float], show: Callable[[float], str]) -> str:
    """From the least to the largest."""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def three_layers() -> None:
    """Seed by seed."""
    headings = ["T", "seed", *(f"`{name}`" for name in SHOWN), "slope of the step", "W_A: slope", "KL over keys"]
    table = Table("three trained layers", headings)
    for length in LENGTHS:
        for found, (scale, over_keys, _) in zip(
            (one for one in identified("trained_l3", SMALL, LENGTHS) if one.length == length),
            matrices("trained_l3", SMALL, length),
            strict=True,
        ):
            shares = (share(found, name, interval=name == "tokens_free") for name in SHOWN)
            seed = found.row.rpartition("=")[2]
            table.add(str(length), seed, *shares, slope(found), f"{scale:.2f}", f"{over_keys:.2g}")
    table.put()


def paper_number() -> None:
    """W_A at the paper's length."""
    table = Table("W_A", ["seed", "KL of W_A over keys", "over rows of π", "slope"])
    for seed, (scale, over_keys, over_rows) in enumerate(matrices("trained_l3", SMALL, 192)):
        table.add(str(seed), f"{over_keys:.3f}", f"{over_rows:.3f}", f"{scale:.2f}")
    table.put()


def others() -> None:
    """From the least seed to the largest."""
    headings = ["network", "task", "T", "nearest, by seed", "that explains", "one or two steps explain"]
    table = Table("other networks", [*headings, "slope of the step", "W_A: slope"])
    for name, task, lengths, step in OTHERS:
        for length in lengths:
            seeds = [found for found in identified(name, task, lengths) if found.length == length]
            nearest = ", ".join(f"`{found.nearest}`" for found in seeds)
            fits = [[found[found.nearest] for found in seeds], [found[step] for found in seeds]]
            shares = [[100 * f.explained for f in each if f.explained is not None] for each in fits]
            of_nearest, of_step = (f"{span(each, '{:.0f}'.format)}%" if each else "" for each in shares)
            slopes = [found.adaptation.slope for found in seeds if found.adaptation is not None]
            scales = [scale for scale, *_ in matrices(name, task, length)] if not name.startswith("standard") else []
            cells = (span(values, "{:.2f}".format) if values else "" for values in (slopes, scales))
            where = (f"`{name}`", task.removeprefix("mtd-"), str(length))
            table.add(*where, nearest, of_nearest, f"`{step}` {of_step}", *cells)
    table.put()


def patched() -> None:
    """What parts do, three seeds."""
    found = mdbench.patch("trained_l3", task=SMALL, length=32, n_sequences=512)
    headings = ["what is replaced", "by", "excess KL, three seeds", "with the readout fitted anew"]
    table, two_digits = Table("patched", headings), functools.partial(short, digits=2)
    table.add("nothing", "", span([one.excess_kl for one in found.interventions if not one.layer], two_digits), "")
    for layer, part, by in REPLACED:
        each = (
            span([one.excess_kl for one in found.of(layer, part, by, refit)], two_digits) for refit in (False, True)
        )
        table.add(f"{part} of layer {layer}", by, *each)
    table.put()


TABLES: dict[str, Callable[[], None]] = {
    "patched": patched,
    "W_A": paper_number,
    "three trained layers": three_layers,
    "other networks": others,
}


if __name__ == "__main__":
    make(__doc__, TABLES)
