"""The tables of docs/inside.md: what `mdbench identify`, `inspect` and `patch` find in the shipped networks.

`python scripts/inside.py` takes half an hour of two cores; what was fitted once comes from the cache. With the name of
a table it makes that alone.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence

from tables import LENGTHS, SMALL, Table, make, scores, short

import mdbench
from mdbench.mechanism.identification import Identified
from mdbench.mechanism.inspection import Inside

SHOWN = ("tokens_free", "tokens_sum_free", "md1_adaptive_tuned", "md1")
OTHERS = (
    ("paper_l3", SMALL, (16,), "md1"),
    ("conditional_l3", SMALL, (32,), "md1"),
    ("trained_l5", SMALL, LENGTHS, "md2"),
    ("trained_l3", "mtd-q3-m2", LENGTHS, "md1"),
    ("standard_l3", SMALL, (16, 32), "md1"),
    ("standard_l5", SMALL, (16, 32), "md1"),
)
LOOKED_INTO = (("trained_l3", SMALL), ("trained_l5", SMALL), ("trained_l3", "mtd-q3-m2"))
STEPS = (1, 3, 5, 13, 27, 44, 100, 300, 900, 1000, 1200, 1500, 3000, 10000)  # about; the nearest snapshot is shown
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
def inside(name: str, task: str, length: int) -> list[Inside]:
    """Each training seed beside the construction."""
    return mdbench.inspect(name, task=task, length=length).runs


def matrices(name: str, task: str, length: int) -> list[tuple[float, float, float]]:
    """Of each seed of a disentangled network: slope of W_A against log π, its KL over keys, and over rows."""
    found = [run.transition for run in inside(name, task, length)]
    return [(w.scale, w.kl_over_keys, w.kl_rows) for w in found if w is not None]


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
    table = Table("W_A", ["seed", "KL of W_A over keys", "over rows of π", "slope", "excess KL"])
    _, excess = scores(SMALL, "trained_l3")[192]
    for seed, (scale, over_keys, over_rows) in enumerate(matrices("trained_l3", SMALL, 192)):
        table.add(str(seed), f"{over_keys:.3f}", f"{over_rows:.3f}", f"{scale:.2f}", short(excess[seed], 2))
    table.put()


def layers() -> None:
    """Layers beside the construction's, from the least seed to the largest."""
    headings = [
        "network",
        "task",
        "T",
        "attention in common at the last query, from layer 1 on",
        "last layer: R² of a step",
    ]
    table = Table("layers", [*headings, "its attention on the lags", "layer 1 off the lags", "layer 2 against that"])
    two, whole = "{:.2f}".format, "{:.0f}".format
    for name, task in LOOKED_INTO:
        for length in LENGTHS:
            runs = inside(name, task, length)
            common = zip(*([100 * layer.overlap_last for layer in run.layers] for run in runs), strict=True)
            steps = [run.step_size for run in runs if run.step_size is not None]
            leaks = [run.leak for run in runs if run.leak is not None]
            table.add(
                f"`{name}`",
                task.removeprefix("mtd-"),
                str(length),
                "; ".join(f"{span(each, whole)}%" for each in common),
                span([step.r_squared for step in steps], two),
                span([100 * step.on_lags for step in steps], whole) + "%",
                span([100 * share for leak in leaks for share in (leak.leak.min(), leak.leak.max())], whole) + "%",
                span([leak.correlation for leak in leaks], two),
            )
    table.put()


def lengths_of_steps() -> None:
    """How tuned step sizes go with the length."""
    table = Table("steps against length", ["algorithm", "η goes as T to the power", "95% interval"])
    found = mdbench.identify("md1", task=SMALL, lengths=LENGTHS, n_sequences=256).exponents
    for name in ("md1", "md2", "md5"):
        power, low, high = found[name]
        table.add(f"`{name}`", f"{power:.2f}", f"{low:.2f} .. {high:.2f}")
    table.put()


def on_the_way() -> None:
    """Snapshots of one training run."""
    headings = ["step", "shares of the nearest mixture", "KL to it", "excess KL", "slope of the step", "W_A: slope"]
    table = Table("phases", headings)
    with tempfile.TemporaryDirectory() as folder:
        config = mdbench.preset_config("bayes", 16, start_length=0, learning_rate=0.02)
        mdbench.train(SMALL, config, folder, seeds=(0,), snapshots=40)
        found = mdbench.phases_of(f"{folder}/seed0", task=SMALL).snapshots
    shown = {min(found, key=lambda one: abs(one.step - step)).step for step in STEPS}
    for one in found:
        if one.step in shown:
            shares = sorted(one.mixture.items(), key=lambda item: -item[1])[:2]
            mixed = ", ".join(f"`{name}` {100 * share:.0f}%" for name, share in shares)
            slopes = ("" if slope is None else f"{slope:.2f}" for slope in (one.adaptation, one.scale))
            table.add(f"{one.step:,}", mixed, short(one.mixture_kl, 2), short(one.excess_kl, 2), *slopes)
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
    "phases": on_the_way,
    "steps against length": lengths_of_steps,
    "layers": layers,
    "three trained layers": three_layers,
    "other networks": others,
}


if __name__ == "__main__":
    make(__doc__, TABLES)
