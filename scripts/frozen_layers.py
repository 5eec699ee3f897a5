"""Which freedom buys what training gains over the construction: some layers train, the others stay as constructed.

`python scripts/frozen_layers.py` begins with the weights of constructed_l3 (scores below -10 raised to that, so that
gradients reach them) on q5-m3 at T = 16, and trains all subsets of layers, the readout always, on the exact posterior's
predictions: 4,000 steps each, a minute of one core. Excess KL on the 2,048 public sequences.
"""

import argparse
import copy
import itertools

import torch
from tables import Table, short

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

TASK, LENGTH, STEPS, RATE = "mtd-q5-m3", 16, 4000, 3e-3
LOWEST = -10.0


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    task = load_task(TASK)
    contexts = sample(task, LENGTH, 2048, 0).contexts
    bayes = metrics.normalise(gold_predictive(task, contexts, [LENGTH]).probs[:, 0])
    begin = copy.deepcopy(ConstructedL3(task).transformer(LENGTH)).float()
    with torch.no_grad():
        for parameter in begin.parameters():
            parameter.clamp_(min=LOWEST)
    table = Table("frozen layers", ["layers that train", "excess KL", "slope of the step"])

    def tell(name: str, model: torch.nn.Module) -> None:
        probs = TrainedModel(model, TrainingConfig(LENGTH)).predict(contexts)
        adaptation = step_adaptation(task, contexts, probs)
        slope = "" if adaptation is None else f"{adaptation.slope:.2f}"
        table.add(name, short(metrics.kl(bayes, probs).mean()), slope)

    tell("none, nor the readout", begin)
    for n in range(4):
        for layers in itertools.combinations((1, 2, 3), n):
            model = copy.deepcopy(begin)
            for k, layer in enumerate(model.layers, start=1):
                layer.requires_grad_(k in layers)
            train(model, task)
            tell(", ".join(map(str, layers)) or "the readout alone", model)
    table.put()


def train(model: torch.nn.Module, task) -> None:
    config = preset_config("bayes", LENGTH, started=True, steps=STEPS, learning_rate=RATE)
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
