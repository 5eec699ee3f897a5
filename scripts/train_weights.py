"""How the shipped weights were made, and the command that makes them again, or more of them.

`python scripts/train_weights.py trained_l5 --task mtd-q5-m3 --seeds 1,2` trains what the recipes below call trained_l5
of that task, and first what that starts from, where it is not shipped for all these seeds. Each line is one `mdbench
train`: what was interrupted goes on, what is finished is not trained again. `--dry-run` only prints the commands.
"""

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mdbench import cli
from mdbench.cli.app import whole_numbers
from mdbench.predictors.catalogue import SHIPPED_WEIGHTS
from mdbench.predictors.training_config import CARD

# Name, task and length; those that it starts from, of the same task; what differs from the preset. A name is a kind of
# KINDS and _l<layers>; with -1, -2, ... it is a stage on the way there, which is not shipped.
RECIPES = """
trained_l3    mtd-q3-m2   16   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q3-m2   32   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q3-m2   64   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q3-m2  128   trained_l3     64   steps=1500 learning_rate=0.006
trained_l5    mtd-q3-m2   16   trained_l3     16   steps=3000 learning_rate=0.006
trained_l5-1  mtd-q3-m2   32   trained_l5     16   steps=1500 learning_rate=0.005
trained_l5    mtd-q3-m2   32   trained_l5-1   32   steps=3000 learning_rate=0.006
trained_l5    mtd-q3-m2   64   trained_l5     32   steps=1500 learning_rate=0.005
trained_l5    mtd-q3-m2  128   trained_l5     64   steps=800 learning_rate=0.005

trained_l2    mtd-q5-m3   32   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q5-m3   16   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q5-m3   32   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q5-m3   64   random              start_length=0 learning_rate=0.02 steps=12000
trained_l3    mtd-q5-m3  128   trained_l3     64   steps=1500 learning_rate=0.006
trained_l3    mtd-q5-m3  192   random              learning_rate=0.02
trained_l3    mtd-q5-m3  256   trained_l3    192   steps=1000 learning_rate=0.006
trained_l4    mtd-q5-m3   32   trained_l3     32   steps=3000 learning_rate=0.006
trained_l5-1  mtd-q5-m3   16   trained_l3     16   steps=3000 learning_rate=0.006
trained_l5    mtd-q5-m3   16   trained_l5-1   16   steps=4000 learning_rate=0.006
trained_l5-1  mtd-q5-m3   32   trained_l3     32   steps=3000 learning_rate=0.006
trained_l5    mtd-q5-m3   32   trained_l5-1   32   steps=3000 learning_rate=0.005
trained_l5-1  mtd-q5-m3   64   trained_l5     32   steps=1500 learning_rate=0.005
trained_l5    mtd-q5-m3   64   trained_l5-1   64   steps=4000 learning_rate=0.006 reuse=2
trained_l5-1  mtd-q5-m3  128   trained_l5     64   steps=1200 learning_rate=0.005 reuse=2
trained_l5    mtd-q5-m3  128   trained_l5-1  128   steps=2000 learning_rate=0.005 reuse=2
trained_l5    mtd-q5-m3  192   trained_l5    128   steps=300 learning_rate=0.004 reuse=2
trained_l5    mtd-q5-m3  256   trained_l5    192   steps=200 learning_rate=0.003 reuse=2
trained_l6    mtd-q5-m3   32   trained_l5     32   steps=1500 learning_rate=0.005

paper_l3         mtd-q5-m3 16  random
cross_entropy_l3 mtd-q5-m3 16  random
conditional_l3   mtd-q5-m3 16  random
conditional_l3   mtd-q5-m3 32  random

trained_l3    mtd-q10-m4  16   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q10-m4  32   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q10-m4  64   random              start_length=0 learning_rate=0.02
trained_l3    mtd-q10-m4 128   trained_l3     64   steps=3000 learning_rate=0.006
trained_l5-1  mtd-q10-m4  16   trained_l3     16   steps=3000 learning_rate=0.006
trained_l5    mtd-q10-m4  16   trained_l5-1   16   steps=4000 learning_rate=0.004 reuse=2
trained_l5    mtd-q10-m4  32   trained_l3     32   steps=3000 learning_rate=0.006
trained_l5    mtd-q10-m4  64   trained_l5     32   steps=1500 learning_rate=0.005
trained_l5-1  mtd-q10-m4 128   trained_l5     64   steps=600 learning_rate=0.005
trained_l5    mtd-q10-m4 128   trained_l5-1  128   steps=700 learning_rate=0.005 reuse=2

standard_l3   mtd-q3-m2   16   random              start_length=0 candidates=1 steps=16000 learning_rate=0.003
standard_l3   mtd-q3-m2   32   standard_l3    16   steps=3000 learning_rate=0.002
standard_l3   mtd-q3-m2   64   standard_l3    32   steps=2000 learning_rate=0.002
standard_l3   mtd-q3-m2  128   standard_l3    64   steps=1000 learning_rate=0.002
standard_l5   mtd-q3-m2   16   standard_l3    16   steps=3000 learning_rate=0.002
standard_l5   mtd-q3-m2   32   standard_l5    16   steps=2000 learning_rate=0.002
standard_l5   mtd-q3-m2   64   standard_l5    32   steps=1500 learning_rate=0.002
standard_l5   mtd-q3-m2  128   standard_l5    64   steps=600 learning_rate=0.002

standard_l3   mtd-q5-m3   16   random              start_length=0 candidates=1 steps=16000 learning_rate=0.003
standard_l3   mtd-q5-m3   32   standard_l3    16   steps=4000 learning_rate=0.002
standard_l3   mtd-q5-m3   64   standard_l3    32   steps=3000 learning_rate=0.002
standard_l3   mtd-q5-m3  128   standard_l3    64   steps=1200 learning_rate=0.002
standard_l3   mtd-q5-m3  192   standard_l3   128   steps=300 learning_rate=0.002
standard_l3   mtd-q5-m3  256   standard_l3   192   steps=200 learning_rate=0.002
standard_l5   mtd-q5-m3   16   standard_l3    16   steps=6000 learning_rate=0.002
standard_l5   mtd-q5-m3   32   standard_l5    16   steps=3000 learning_rate=0.002
standard_l5   mtd-q5-m3   64   standard_l5    32   steps=2000 learning_rate=0.002
standard_l5   mtd-q5-m3  128   standard_l5    64   steps=800 learning_rate=0.001
standard_l5   mtd-q5-m3  192   standard_l5   128   steps=300 learning_rate=0.001
standard_l5   mtd-q5-m3  256   standard_l5   192   steps=150 learning_rate=0.001

standard_l3-1 mtd-q10-m4  16   random              start_length=0 candidates=1 steps=16000 learning_rate=0.003
standard_l3-2 mtd-q10-m4  16   standard_l3-1  16   steps=12000 learning_rate=0.003
standard_l3   mtd-q10-m4  16   standard_l3-2  16   steps=16000 learning_rate=0.003
standard_l3   mtd-q10-m4  32   standard_l3    16   steps=4000 learning_rate=0.002
standard_l3   mtd-q10-m4  64   standard_l3    32   steps=2500 learning_rate=0.002
standard_l3   mtd-q10-m4 128   standard_l3    64   steps=1200 learning_rate=0.002
standard_l5   mtd-q10-m4  16   standard_l3    16   steps=5000 learning_rate=0.002
standard_l5   mtd-q10-m4  32   standard_l5    16   steps=3000 learning_rate=0.002
standard_l5   mtd-q10-m4  64   standard_l5    32   steps=2000 learning_rate=0.002
standard_l5   mtd-q10-m4 128   standard_l5    64   steps=400 learning_rate=0.001

trained_l3    selective-q3-m2 32 random            start_length=0 learning_rate=0.02
trained_l3    markov-q3-k1 32    random            start_length=0 learning_rate=0.02
trained_l3    hmm-q3-h2-k4 32    random            start_length=0 learning_rate=0.02
standard_l3   selective-q3-m2 32 random            candidates=1 steps=8000 learning_rate=0.003
standard_l3   markov-q3-k1 32    random            candidates=1 steps=8000 learning_rate=0.003
standard_l3   hmm-q3-h2-k4 32    random            candidates=1 steps=8000 learning_rate=0.003
trained_l3    diversity-q5-m3-2    32 random       start_length=0 learning_rate=0.02
trained_l3    diversity-q5-m3-16   32 random       start_length=0 learning_rate=0.02
trained_l3    diversity-q5-m3-128  32 random       start_length=0 learning_rate=0.02
"""


# The preset of each kind, and what all of it have besides.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "trained": ("bayes", {}),
    "standard": ("bayes", {"model": "standard", "loss": "cross_entropy"}),
    "paper": ("paper", {}),
    "cross_entropy": ("cross-entropy", {}),
    "conditional": ("conditional", {}),
}


@dataclass(frozen=True, eq=False)
class Recipe:
    """One ``mdbench train``, with preset and options as ``preset_config`` has them."""

    name: str
    task: str
    length: int
    start: "Recipe | None"
    preset: str
    options: dict[str, Any]

    def runs(self, folder: Path) -> Path:
        """Where its runs are below a folder, as ``mdbench train`` and the shipped weights have it."""
        return folder / self.name / self.task / f"T{self.length}"

    def chain(self) -> "list[Recipe]":
        """What it starts from, first to last, and itself."""
        return [*([] if self.start is None else self.start.chain()), self]


def read_recipes() -> list[Recipe]:
    """All of them, each after what it starts from."""
    found: dict[tuple[str, str, str], Recipe] = {}
    for row in filter(None, RECIPES.splitlines()):
        name, task, length, start, *rest = row.split()
        begin = None if start == "random" else found[start, task, rest.pop(0)]
        kind, depth = re.match(r"(\w+)_l(\d+)", name).groups()
        preset, options = KINDS[kind]
        options = {"depth": int(depth)} | options
        options |= {
            option: float(value) if "." in value else int(value) for option, value in (word.split("=") for word in rest)
        }
        found[name, task, length] = Recipe(name, task, int(length), begin, preset, options)
    return list(found.values())


def commands(wanted: list[Recipe], seeds: list[int], out: Path, device: str, anew: bool) -> list[list[str]]:
    """Options of `mdbench train`: what trains them, each once and after those that it starts from."""

    def shipped(recipe: Recipe, seed: int) -> bool:
        return not anew and (recipe.runs(SHIPPED_WEIGHTS) / f"seed{seed}" / CARD).exists()

    found: list[list[str]] = []

    def add(recipe: Recipe, seeds: list[int]) -> None:
        missing = [seed for seed in seeds if not shipped(recipe, seed)]
        by_start: dict[Path | None, list[int]] = {}
        for seed in missing:
            start = recipe.start and recipe.start.runs(SHIPPED_WEIGHTS if shipped(recipe.start, seed) else out)
            by_start.setdefault(start, []).append(seed)
        if recipe.start is not None:
            add(recipe.start, missing)
        for start, its_seeds in by_start.items():
            given = {"task": recipe.task, "lengths": recipe.length, "preset": recipe.preset} | recipe.options
            given |= {} if start is None else {"start_from": start}
            given |= {"seeds": ",".join(map(str, its_seeds)), "device": device, "out": out / recipe.name}
            words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
            if words not in found:
                found.append(words)

    for recipe in wanted:
        add(recipe, seeds)
    return found


def whole_numbers_of(option: str) -> Callable[[str], list[int] | None]:
    """The parser that `mdbench` has for an option."""
    return lambda text: whole_numbers(text, option)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="trained_l5, say; all if none is given.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only of this task; may be given several times.")] = None,
    lengths: Annotated[Any, typer.Option(parser=whole_numbers_of("--lengths"), help="Only these, by commas.")] = None,
    seeds: Annotated[Any, typer.Option(parser=whole_numbers_of("--seeds"), help="Separated by commas.")] = "0,1,2",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the runs OUT/<name>/<task>/T<length>/seed<seed>.")] = Path(
        "runs"
    ),
    anew: Annotated[bool, typer.Option("--anew", help="Also what is shipped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands.")] = False,
) -> None:
    """Train what the recipes say and what is not shipped yet."""
    recipes = [recipe for recipe in read_recipes() if "-" not in recipe.name]
    for key, values in (("name", names), ("task", task), ("length", lengths)):
        for value in values or ():
            if value not in (known := {getattr(recipe, key): None for recipe in recipes}):
                raise typer.BadParameter(f"no recipe has {key} {value}; there are {', '.join(map(str, known))}.")
        recipes = [recipe for recipe in recipes if not values or getattr(recipe, key) in values]
    found = commands(recipes, seeds, out, device, anew)
    if not found:
        print("All of this is shipped; --anew trains it again.")
    for options in found:
        print(shlex.join(["mdbench", "train", *options]), flush=True)
        if not dry_run:
            sys.argv = ["mdbench", "train", *options]
            try:
                cli.main()  # in this process, with which it ends
            except SystemExit as end:
                if end.code:
                    raise


if __name__ == "__main__":
    typer.run(main)
