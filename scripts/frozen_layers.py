"""Which freedom buys what training gains over the construction: some layers train, the others stay as constructed.

`python scripts/frozen_layers.py` begins with the weights of constructed_l3 (scores below -10 raised to that, so that
gradients reach them) on q5-m3 at T = 16, and trains all subsets of layers, the readout always, on the exact posterior's
predictions: 4,000 steps each, a minute of one core. Excess KL on the 2,048 public sequences.
"""

import argparse
import copy
import itertools

import torch

from mdbench.core import metrics
from mdbench.core.device import one_thread
from mdbench.evaluation.gold import gold_predictive
from mdbench.mechanism.adaptation import step_adaptation
from mdbench.predictors.constructed import ConstructedL3
from mdbench.predictors.trained import TrainedModel
from mdbench.predictors.training_config import TrainingConfig
from mdbench.tasks import load_task, sample
from mdbench.training.data import Batches
from mdbench.training.presets import preset_config
from mdbench.training.trainer import loss_of, set_learning_rate

LOWEST = -10.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="mtd-q5-m3")
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    task = load_task(options.task)
    contexts = sample(task, options.length, 2048, 0).contexts
    bayes = metrics.normalise(gold_predictive(task, contexts, [options.length]).probs[:, 0])
    begin = copy.deepcopy(ConstructedL3(task).transformer(options.length)).float()
    with torch.no_grad():
        for parameter in begin.parameters():
            parameter.clamp_(min=LOWEST)
    print("| layers that train | excess KL | slope of the effective step on η_i |\n|---|---|---|")

    def tell(name: str, model: torch.nn.Module) -> None:
        probs = TrainedModel(model, TrainingConfig(options.length)).predict(contexts)
        adaptation = step_adaptation(task, contexts, probs)
        slope = "" if adaptation is None else f"{adaptation.slope:.2f}"
        print(f"| {name} | {metrics.kl(bayes, probs).mean():.3g} | {slope} |", flush=True)

    tell("none, nor the readout", begin)
    for n in range(4):
        for layers in itertools.combinations((1, 2, 3), n):
            model = copy.deepcopy(begin)
            for k, layer in enumerate(model.layers, start=1):
                layer.requires_grad_(k in layers)
            train(model, task, options)
            tell(", ".join(map(str, layers)) or "the readout alone", model)


def train(model: torch.nn.Module, task, options) -> None:
    config = preset_config("bayes", options.length, started=True, steps=options.steps, learning_rate=options.rate)
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(free, lr=config.learning_rate)
    data = Batches(task, config.length, config.target, config.batch, config.reuse, 0, "cpu")
    with one_thread():
        for step in range(config.steps):
            set_learning_rate(adam, config.learning_rate_at(step))
            tokens, targets = data[step]
            adam.zero_grad()
            loss_of(config, model(tokens), targets).mean().backward()
            adam.step()


if __name__ == "__main__":
    main()
