"""Between two training seeds: excess KL along the line from one's weights to the other's.

`python scripts/interpolation.py trained_l3 --length 32 --seeds 0,2` as they are, and after the second is turned into
the first one's basis: relative-position values have a basis of their own in each model, so that any rotation of them,
undone where they are read, leaves the function as it is (orthogonal Procrustes, layer by layer).
"""

import argparse
import copy

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from mdbench.core import metrics
from mdbench.evaluation.gold import gold_predictive
from mdbench.predictors.catalogue import build_predictor
from mdbench.predictors.trained import TrainedModel
from mdbench.tasks import load_task, sample


def turned(model: torch.nn.Module, like: torch.nn.Module) -> torch.nn.Module:
    """The same function in the basis of another model's relative-position values."""
    model = copy.deepcopy(model).double()
    basis = torch.eye(model.n_states, dtype=torch.float64)  # of the stream: new coordinates are h @ basis
    with torch.no_grad():
        for layer, other in zip(model.layers, like.layers, strict=True):
            layer.attend.copy_(basis.T @ layer.attend @ basis)
            layer.attend_offset.copy_(layer.attend_offset @ basis)
            rotation = orthogonal_procrustes(layer.value_offset.numpy(), other.value_offset.double().numpy())[0]
            rotation = torch.from_numpy(rotation)
            layer.value_offset.copy_(layer.value_offset @ rotation)
            basis = torch.block_diag(basis, basis, rotation)
        model.readout.copy_(model.readout @ basis)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("predictor")
    parser.add_argument("--task", default="mtd-q5-m3")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--n-sequences", type=int, default=1024)
    options = parser.parse_args()
    task = load_task(options.task)
    contexts = sample(task, options.length, options.n_sequences, 0).contexts
    bayes = metrics.normalise(gold_predictive(task, contexts, [options.length]).probs[:, 0])
    runs = build_predictor(options.predictor, task).runs(options.length)
    a, b = (copy.deepcopy(runs[int(seed)].transformer(options.length)).double() for seed in options.seeds.split(","))

    def excess(model: torch.nn.Module) -> float:
        probs = TrainedModel(model, runs[0].config).predict(contexts)
        return float(metrics.kl(bayes, probs).mean())

    same = turned(b, a)
    print(f"turning changes the excess KL by {abs(excess(same) - excess(b)):.1e}")
    print("| share of the second | as they are | turned |\n|---|---|---|")
    for share in np.linspace(0, 1, 6):
        cells = []
        for other in (b, same):
            between = copy.deepcopy(a)
            with torch.no_grad():
                for parameter, first, second in zip(
                    between.parameters(), a.parameters(), other.parameters(), strict=True
                ):
                    parameter.copy_((1 - share) * first + share * second)
            cells.append(f"{excess(between):.3g}")
        print(f"| {share:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
