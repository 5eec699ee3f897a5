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
    """Of W_A (rows: the query's state b, columns: the key's a), at the temperature that suits it best.

    ``keys``: 1 - KL(π(a, b)/Σ_a π(a, b) ‖ softmax over a of τ W_A)/KL(the same ‖ uniform), all that attention sees.
    ``rows``: the same of π(a, ·) and softmax over b, which attention leaves open up to a constant for each b.
    ``against``: as ``keys``, of -W_A.
    """
    expected = {"keys": task.transition.T / task.transition.T.sum(axis=1, keepdims=True), "rows": task.transition}
    expected["against"] = expected["keys"]
    scores = {"keys": attend, "rows": attend.T, "against": -attend}

    def apart(temperature: float, name: str) -> float:
        logs = log_softmax(temperature * scores[name], axis=1)  # finite where the probability is not
        return float((special.rel_entr(expected[name], 1.0) - expected[name] * logs).sum(axis=1).mean())

    found: dict[str, float] = {}
    for name in expected:
        best = minimize_scalar(apart, bounds=(0.0, HIGHEST), args=(name,), method="bounded")
        nothing = apart(0.0, name)
        found |= {name: 1 - min(float(best.fun), nothing) / nothing, f"temperature_{name}": float(best.x)}
    return found


def _run(lab: Laboratory) -> Finding:
    task, lines, images = lab.small, [], []
    for name in NAMES:
        for (_, length), judged in lab.judge([name], [task.name])[name].items():
            for seed, model in enumerate(models_of(name, task, length, lab.device)[1]):
                assert isinstance(model.module, DisentangledTransformer), "these weights are of such"
                attend = model.module.layers[0].attend.detach().cpu().double().numpy()
                line: dict[str, Any] = {"predictor": name, "length": length, "seed": seed}
                line |= shares(task, attend) | {"kl": float(judged.kl[seed].mean())}
                lines.append(line | {"excess_kl": float(judged.excess_kl[seed].mean())})
                if seed == 0 and length == min(lab.lengths):
                    images.append(Panel(f"{name}, T = {length}, seed 0", "key", "query", image=softmax(attend, axis=1)))

    def of_seeds(what: str) -> dict[str, list[float]]:
        return {name: [line[what] for line in lines if line["predictor"] == name] for name in NAMES}

    by_name, against = of_seeds("keys"), of_seeds("against")
    worst = min(value for values in by_name.values() for value in values)
    found = {name: sum(v >= FOUND for v in values) for name, values in by_name.items()}
    turned = {name: sum(v >= FOUND for v in values) for name, values in against.items()}
    expected = task.transition.T / task.transition.T.sum(axis=1, keepdims=True)
    panels = [Panel("construction", "key", "query", image=expected), *images]
    places = {n: [f"T = {line['length']}, {line['seed']}" for line in lines if line["predictor"] == n] for n in NAMES}
    for title, values in (("W_A", by_name), ("-W_A", against)):
        points = [Curve(name, places[name], values[name]) for name in NAMES]
        panels.append(Panel(f"share of π in {title}, over keys", "length, seed", "share", points, log_y=False))
    return Finding(
        verdict=Verdict.HOLDS if worst >= FOUND else Verdict.FAILS,
        estimate=worst,
        interval=None,
        unit="share of the information on π, the least of all seeds",
        seeds=max(line["seed"] for line in lines) + 1,
        says="Seeds whose W_A has nine tenths of π, up to temperature: "
        + ", ".join(f"{name} {found[name]} of {len(by_name[name])}, its negative {turned[name]}" for name in NAMES)
        + f" ({task.name}, T = {', '.join(map(str, lab.lengths))} as far as there are weights). Networks of the second "
        "kind let layer 2 undo the sign.",
        rows=lines,
        panels=panels,
    )


CLAIM = Claim(
    statement="The learned attention matrix of layer 1 is the log transition matrix, up to temperature.",
    source=PAPER,
    rule="holds if in every training seed softmax(τ W_A) over keys has at least 0.9 of the information on π (1 - KL "
    "over the KL of uniform attention, at the best τ > 0), else fails",
    run=_run,
)
