"""The claims by name, in the order in which they are told. One more is one more file and its name here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from mdbench.claims.claim import Claim
from mdbench.core.errors import unknown_name

NAMES = (
    "one_step",
    "first_order",
    "smoothness",
    "step_size",
    "predictions",
    "attention_maps",
    "transition_matrix",
    "five_layers",
    "early_stopping",
    "leaves_bayes",
    "weight_space",
    "standard_networks",
    "tied_steps",
    "six_layers",
    "constructions",
    "cross_entropy",
    "wrong_prior",
    "adaptive_step",
    "learned_steps",
)
MAIN = "predictions"  # whose figure is the main one


def claims_of(names: Sequence[str] = ()) -> dict[str, Claim]:
    """Those claims, all if none are named.

    Raises:
        InputError: there is no such claim.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise unknown_name("claim", unknown[0], NAMES)
    wanted = [name for name in NAMES if name in names] if names else NAMES
    return {name: import_module(f"mdbench.claims.{name}").CLAIM for name in wanted}
