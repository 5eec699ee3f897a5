"""Sequences to train on, drawn on the device where they are used, with the targets to predict.

NumPyro's sampler took a third of a training step on the CPU (1.2 ms for 128 sequences of q = 5, m = 3, T = 32), so here
is another for mixtures over lags, of inverse distribution functions in torch; a test holds it against the model,
distribution by distribution. Other families are drawn from their model.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdbench.baselines import EXACT
from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError
from mdbench.predictors.training_config import BAYES, TOKEN
from mdbench.tasks import DirichletLagMixture, Recorded, Stream, Task, sample
from mdbench.tasks.mixture import tokens_before

BLOCK = 64  # batches drawn at once on the CPU

GPU_BLOCK = 2**16  # sequences, likewise on a GPU: a position costs the same launches for any number of them

TOLERANCE = 1e-7  # of the posterior: what it errs by is below what float32 rounds by in the targets


def draw_sequences(
    task: DirichletLagMixture, length: int, n: int, generator: torch.Generator
) -> tuple[Int[Tensor, "n length"], Float[Tensor, "n c"]]:
    """Draw tokens and weights λ from the model on the generator's device, in float64."""
    device, order, m = generator.device, task.order, task.n_components
    options: dict[str, Any] = {"dtype": torch.float64, "device": device}
    # Gamma(α) as Gamma(α + 1) U^(1/α), in logarithms: for a small α it is often below what float64 holds.
    log_gamma = torch._standard_gamma(torch.full((n, m), task.concentration + 1.0, **options), generator).log()
    log_gamma += torch.rand((n, m), generator=generator, **options).log_() / task.concentration
    weights = torch.softmax(log_gamma, dim=-1)
    tokens = torch.empty((length, n), dtype=torch.int64, device=device)
    tokens[:order] = torch.randint(task.n_states, (order, n), generator=generator, device=device)
    cumulative = _matrices(task, device).cumsum(dim=-1)
    cumulative = (cumulative / cumulative[..., -1:])[..., :-1].contiguous()  # what has probability 0 is never drawn
    bounds = weights.cumsum(dim=-1).T[:-1].contiguous()  # (m-1, n)
    u = torch.rand((length - order, 2, n), generator=generator, **options)
    everyone = torch.arange(n, device=device)
    for t in range(order, length):
        component = (u[t - order, 0] >= bounds).sum(dim=0)
        previous = tokens[t - 1 - component.clamp(max=order - 1), everyone]
        tokens[t] = (u[t - order, 1][:, None] >= cumulative[component, previous]).sum(dim=-1)
    return tokens.T.contiguous(), weights


def _matrices(task: DirichletLagMixture, device: torch.device) -> Float[Tensor, "c q q"]:
    """One for each component; that of the independent one has equal rows."""
    matrices = torch.tensor(np.array(task.matrices), device=device)
    if task.independent is None:
        return matrices
    alone = torch.tensor(np.array(task.independent), device=device).expand(1, *matrices.shape[1:])
    return torch.cat([matrices, alone])


def _training_windows(task: Recorded, size: int, target: str) -> Int[Tensor, "K size"]:
    """All contexts in the training part of recorded sequences, each with the token after it.

    Raises:
        InputError: something else than that token is to be predicted, or there are none.
    """
    if target != TOKEN:
        raise InputError(
            f"the sequences of '{task.name}' were recorded, and all that is known of the next token is which one came; "
            "take the target 'token' (as in --preset cross-entropy)."
        )
    windows = task.training_windows(size)
    if not len(windows):
        raise InputError(
            f"in the training part of '{task.name}' no {size} observations stand in a row; take a shorter length."
        )
    return torch.from_numpy(windows)


class Batches:
    """The batches of one run: what step k gets is a function of (task, seed, k) alone.

    Of recorded sequences they are windows of the training part, all equally likely, with the target ``token`` alone.

    Args:
        task: what to draw from.
        length: T of the contexts.
        target: ``token`` (one-hot y_{T+1}), ``conditional`` (p(· | θ, y)) or ``bayes`` (p_B(· | y)).
        batch: sequences a step.
        reuse: steps that each sequence serves: 1 is fresh sequences each step; more, in new random batches each time,
            share the cost of the target among them.
        seed: of the sequences. A run that starts from another one of its seed gets the same again; on the CPU, at a
            longer T, the same with more tokens.
        device: where they are drawn; two kinds of devices draw different ones.
    """

    def __init__(self, task: Task, length: int, target: str, batch: int, reuse: int, seed: int, device: str) -> None:
        self.windows: Tensor | None = None  # of recorded sequences
        if isinstance(task, Recorded):
            self.windows = _training_windows(task, length + 1, target)
        elif target == BAYES:
            assert task.gold is not None, "all else has a gold"
            try:
                near = {"tolerance": TOLERANCE} if task.gold == "exact" else {}
                self.gold = build_baseline(task.gold, **near)
                build_baseline(task.gold).check(task, length)  # what a tolerance adds takes seconds a sequence
                if self.gold.standing != EXACT:
                    raise InputError(f"that of '{task.name}' is sampled; take the target 'conditional'.")
            except InputError as error:
                raise InputError(f"the target 'bayes' needs the exact posterior: {error}") from None
        self.task, self.length, self.target = task, length, target
        self.batch, self.reuse, self.seed = batch, reuse, seed
        self.generator = torch.Generator(device)
        on_cpu = device == "cpu" or target == BAYES  # where the time goes; the exact posterior is computed there
        self.n_batches = BLOCK if on_cpu else max(BLOCK, GPU_BLOCK // batch)  # drawn at once
        self.block: tuple[int, int] | None = None  # which block, in which order, stands in `tokens` and `targets`

    def __getitem__(self, step: int) -> tuple[Int[Tensor, "batch T"], Float[Tensor, "batch q"]]:
        """Tokens and targets (float32) of a step, counted from 0."""
        round_, place = divmod(step, self.n_batches)
        block = divmod(round_, self.reuse)
        if self.block != block:
            if self.block is None or self.block[0] != block[0]:
                self.drawn = self._draw(block[0])
            if self.reuse == 1:
                self.tokens, self.targets = self.drawn
            else:
                generator = self._seeded(*block)
                order = torch.randperm(len(self.drawn[0]), generator=generator, device=generator.device)
                self.tokens, self.targets = (array[order] for array in self.drawn)
            self.block = block
        rows = slice(place * self.batch, (place + 1) * self.batch)
        return self.tokens[rows], self.targets[rows]

    def _draw(self, block: int) -> tuple[Tensor, Tensor]:
        task, n = self.task, self.n_batches * self.batch
        generator = self._seeded(block)
        if self.windows is not None:
            chosen = torch.randint(len(self.windows), (n,), generator=generator, device=generator.device)
            tokens, theta = self.windows.to(generator.device)[chosen], torch.empty((n, 0), device=generator.device)
        elif isinstance(task, DirichletLagMixture):
            tokens, theta = draw_sequences(task, self.length + 1, n, generator)
        else:
            drawn = sample(task, self.length, n, self.seed, stream=Stream.TRAINING, start=block * n)
            tokens, theta = (
                torch.from_numpy(a).to(generator.device) for a in (drawn.tokens.astype("int64"), drawn.theta)
            )
        contexts, next_tokens = tokens[:, :-1].contiguous(), tokens[:, -1]
        if self.target == TOKEN:
            target = torch.nn.functional.one_hot(next_tokens, task.n_states)
        elif isinstance(task, DirichletLagMixture):
            if self.target == BAYES:
                mean = self.gold.posterior(task, contexts.cpu().numpy()).mean[:, 0]
                theta = torch.from_numpy(mean).to(theta)
            recent = tokens_before(contexts, task.order, contexts.shape[1])
            recent = recent[:, [*range(task.order), *[0] * (task.n_components - task.order)]]
            rows = _matrices(task, theta.device)[torch.arange(task.n_components, device=theta.device), recent]
            target = torch.einsum("ng,ngb->nb", theta, rows)
        else:
            of_numpy = contexts.cpu().numpy()
            bayes = self.target == BAYES
            probs = self.gold.next_token(task, of_numpy) if bayes else task.truth(theta.cpu().numpy(), of_numpy)
            target = torch.from_numpy(probs).to(theta.device)
        return contexts, target.to(torch.float32)

    def _seeded(self, *what: int) -> torch.Generator:
        """The generator, at a state that depends on task, seed and ``what`` alone."""
        key = repr((self.task.task_hash, int(Stream.TRAINING), self.seed, *what)).encode()
        return self.generator.manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1)
