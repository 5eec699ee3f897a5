"""Two training seeds, as points in the space of weights."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from mdbench.claims.claim import Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Judged, Laboratory, conjunction
from mdbench.claims.transition_matrix import shares, w_a
from mdbench.mechanism.tracing import models_of
from mdbench.predictors.trained import TrainedModel
from mdbench.predictors.transformer import DisentangledTransformer

NAME, LENGTH = "trained_l3", 32
SHARES = np.linspace(0, 1, 7).tolist()


def turned(model: DisentangledTransformer, like: DisentangledTransformer) -> DisentangledTransformer:
    """The same function in the basis of another model's relative-position values.

    These have a basis of their own in each model: any rotation of them, undone where they are read, changes nothing
    (orthogonal Procrustes, layer by layer).
    """
    model = copy.deepcopy(model).double()
    basis = torch.eye(model.n_states, dtype=torch.float64)  # of the stream: new coordinates are h @ basis
    with torch.no_grad():
        for layer, other in zip(model.layers, like.layers, strict=True):
            layer.attend.copy_(basis.T @ layer.attend @ basis)
            layer.attend_offset.copy_(layer.attend_offset @ basis)
            rotation = orthogonal_procrustes(layer.value_offset.numpy(), other.value_offset.double().numpy())[0]
            layer.value_offset.copy_(layer.value_offset @ torch.from_numpy(rotation))
            basis = torch.block_diag(basis, basis, torch.from_numpy(rotation))
        model.readout.copy_(model.readout @ basis)
    return model


def between(a: DisentangledTransformer, b: DisentangledTransformer, share: float) -> DisentangledTransformer:
    """The point on the line from one's weights to the other's."""
    model = copy.deepcopy(a)
    with torch.no_grad():
        for parameter, first, second in zip(model.parameters(), a.parameters(), b.parameters(), strict=True):
            parameter.copy_((1 - share) * first + share * second)
    return model


def _run(lab: Laboratory) -> Finding:
    task = lab.small
    models = models_of(NAME, task, LENGTH, "cpu")[1]
    contexts = lab.cells(task.name)[LENGTH].contexts

    def judged(module: DisentangledTransformer) -> Judged:
        probs = TrainedModel(module, models[0].predictor.config).predict(contexts)
        return lab.scored(task.name, LENGTH, np.asarray(probs)[None])

    curves, lines, ratios = [], [], {}
    modules = [copy.deepcopy(m.module).double() for m in models if isinstance(m.module, DisentangledTransformer)]
    for i, j in itertools.combinations(range(len(modules)), 2):
        for how, other in (("as they are", modules[j]), ("turned", turned(modules[j], modules[i]))):
            path = [judged(between(modules[i], other, share)) for share in SHARES]
            values = [float(at.excess_kl.mean()) for at in path]
            lines += [
                {"seeds": f"{i} to {j}", "basis": how, "share": s, "kl": float(at.kl.mean()), "excess_kl": v}
                for s, at, v in zip(SHARES, path, values, strict=True)
            ]
            curves.append(
                Curve(
                    f"seeds {i}, {j}, {how}",
                    SHARES,
                    values,
                    dashed=how != "turned",
                )
            )
            if how == "turned":
                worse = path[0] if values[0] > values[-1] else path[-1]
                place = (task.name, LENGTH)
                ratios[i, j] = lab.ratio({place: path[int(np.argmax(values))]}, {place: worse})
    signs = ["+" if found["keys"] > found["against"] else "-" for found in (shares(task, w_a(m)) for m in modules)]
    worst = max(ratios.values(), key=lambda ratio: ratio.value)
    return Finding(
        verdict=conjunction(lab.below(ratio, 1 + lab.margin) for ratio in ratios.values()),
        estimate=worst.value,
        interval=worst.interval,
        unit="the highest excess KL on the line over that of its worse end, the worst pair",
        seeds=len(modules),
        says="Highest point of the line over its worse end, after the rotation that leaves the function as it is: "
        + ", ".join(f"seeds {i} and {j} {ratio.value:.3g}" for (i, j), ratio in ratios.items())
        + f" ({NAME}, {task.name}, T = {LENGTH}). Sign with which W_A of layer 1 holds log π: {', '.join(signs)}. "
        "Other changes of basis that are no rotations were not searched.",
        rows=lines,
        panels=[Panel(f"{NAME}, T = {LENGTH}", "share of the second seed", "excess KL, nats", curves)],
    )


CLAIM = Claim(
    statement="Training seeds end in the same weights, up to rotation of the values of relative positions.",
    source="a reviewers' question on arXiv 2604.10848: convergence in weight space",
    rule="holds if on the straight line between any two seeds of trained_l3 (T = 32), turned into one basis, the "
    "excess KL stays within the margin of the worse end (95% interval of the ratio below {high}), fails if it rises "
    "above between two, else undecided",
    run=_run,
)
