"""What the first layer's attention matrix says of the transition matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict
from mdbench.mechanism.tracing import models_of
from mdbench.predictors.transformer import DisentangledTransformer
from mdbench.tasks import MTD

NAMES = ("trained_l3", "conditional_l3", "paper_l3")
FOUND = 0.9  # share of what there is to know
HIGHEST = 20.0  # τ


def shares(task: MTD, attend: Float[np.ndarray, "q q"]) -> dict[str, float]:
    """Of W_A (rows: the query's state b, columns: the key's a), at the inverse temperature τ that suits it best.

    ``keys``: 1 - KL(π(a, b)/Σ_a π(a, b) ‖ softmax over a of τ W_A)/KL(the same ‖ uniform), all that attention sees.
    ``rows``: the same of π(a, ·) and softmax over b, which attention leaves open up to a constant for each b.
    ``against`` and ``rows_against``: of -W_A.
    """
    over_keys, over_rows = over_keys_of(task), np.asarray(task.transition)
    found: dict[str, float] = {}
    for name, expected, scores in (
        ("keys", over_keys, attend),
        ("rows", over_rows, attend.T),
        ("against", over_keys, -attend),
        ("rows_against", over_rows, -attend.T),
    ):
        best = minimize_scalar(_apart, bounds=(0.0, HIGHEST), args=(expected, scores), method="bounded")
        nothing = _apart(0.0, expected, scores)
        found |= {name: 1 - min(float(best.fun), nothing) / nothing, f"tau_{name}": float(best.x)}
    return found


def over_keys_of(task: MTD) -> Float[np.ndarray, "q q"]:
    """π(a, b)/Σ_a π(a, b), rows b: what the construction's attention gives to the keys a."""
    return task.transition.T / task.transition.T.sum(axis=1, keepdims=True)


def _apart(tau: float, expected: Float[np.ndarray, "q q"], scores: Float[np.ndarray, "q q"]) -> float:
    logs = log_softmax(tau * scores, axis=1)  # finite where the probability is not
    return float((special.rel_entr(expected, 1.0) - expected * logs).sum(axis=1).mean())


def w_a(module: DisentangledTransformer) -> Float[np.ndarray, "q q"]:
    """Of layer 1."""
    return module.layers[0].attend.detach().cpu().double().numpy()


def _count(lines: list[dict[str, Any]], name: str) -> int:
    return sum(line["predictor"] == name for line in lines)


def signed(found: dict[str, float], name: str, against: str) -> float:
    """The share of the better sign, with that sign."""
    return found[name] if found[name] >= found[against] else -found[against]


def _run(lab: Laboratory) -> Finding:
    task, images = lab.small, []
    lines: list[dict[str, Any]] = []
    for name in NAMES:
        for (_, length), judged in lab.judge([name], [task.name])[name].items():
            for seed, model in enumerate(models_of(name, task, length, lab.device)[1]):
                assert isinstance(model.module, DisentangledTransformer), "these weights are of such"
                found = shares(task, w_a(model.module))
                line: dict[str, Any] = {"predictor": name, "length": length, "seed": seed, **found}
                line |= {
                    "signed": signed(found, "keys", "against"),
                    "signed_rows": signed(found, "rows", "rows_against"),
                }
                line |= {"kl": float(judged.kl[seed].mean()), "excess_kl": float(judged.excess_kl[seed].mean())}
                lines.append(line)
                if seed == 0 and length == min(lab.lengths):
                    image = softmax(w_a(model.module), axis=1)
                    images.append(Panel(f"W_A of {name}, T = {length}, seed 0", "key a", "query b", image=image))
    along, against = ([line for line in lines if sign * line["signed"] > 0] for sign in (1, -1))
    worst = min(line["keys"] for line in lines)
    enough = sum(line["keys"] >= FOUND for line in lines)
    either = sum(abs(line["signed"]) >= FOUND for line in lines)
    panels = [Panel("the construction's, softmax over keys", "key a", "query b", image=over_keys_of(task)), *images]
    for what, title in (("signed", "over keys"), ("signed_rows", "over rows")):
        points = []
        for name in NAMES:
            own = [line for line in lines if line["predictor"] == name]
            points.append(
                Curve(name, [f"T = {line['length']}, seed {line['seed']}" for line in own], [v[what] for v in own])
            )
        if what == "signed":
            labels = list(dict.fromkeys(label for curve in points for label in curve.x))
            points.append(Curve(f"{FOUND}, as the rule asks", labels, [FOUND] * len(labels), dashed=True))
        panels.append(Panel(f"share of π found, {title}; negative: in -W_A", "", "share", points, log_y=False))
    return Finding(
        verdict=Verdict.HOLDS if worst >= FOUND else Verdict.FAILS,
        estimate=worst,
        interval=None,
        unit="share of the information on π in W_A, over keys, the least of all networks (0 where it is in -W_A)",
        seeds=max(line["seed"] for line in lines) + 1,
        says="The share is 1 - KL over the KL of uniform attention, of softmax(τ W_A) from what π says. "
        f"Of {len(lines)} networks {enough} have a share of {FOUND} or more, as the rule asks of all ({task.name}, "
        f"T = {', '.join(map(str, lab.lengths))} as far as there are weights). "
        f"In {len(against)} log π is in -W_A, and no positive τ turns a sign: their share is 0, whatever a rule would "
        "ask ("
        + ", ".join(f"{_count(against, name)} of {_count(lines, name)} of {name}" for name in reversed(NAMES))
        + f"). With the sign free {either} would have {FOUND} or more, and the claim would "
        f"{'hold' if either == len(lines) else 'fail all the same'}; the least is "
        f"{min(abs(line['signed']) for line in lines):.2f}. "
        f"Over keys (normalised over a, the key's state, as attention is) the shares are {_range(along, 'signed')} in "
        f"W_A and {_range(against, 'signed')} in -W_A, over rows (normalised over b, the query's, as a row of π is) "
        f"{_range(along, 'signed_rows')} and {_range(against, 'signed_rows')}.",
        rows=lines,
        panels=panels,
    )


def _range(lines: list[dict[str, Any]], name: str) -> str:
    values = sorted(abs(line[name]) for line in lines)
    return f"{values[0]:.2f} to {values[-1]:.2f}" if values else "none"


CLAIM = Claim(
    statement="The learned attention matrix of layer 1 is the log transition matrix, up to temperature.",
    source=f"{PAPER}, the learned matrix: it reports a KL of 0.0376 for one network at T = 192",
    rule="holds if in every training seed of trained_l3, conditional_l3 and paper_l3 (mtd-q5-m3, T = 16 to 128 as far "
    "as there are weights) softmax(τ W_A) over keys has at least 0.9 of the information on π (1 - KL over the KL of "
    "uniform attention, at the best τ > 0), else fails",
    run=_run,
)
