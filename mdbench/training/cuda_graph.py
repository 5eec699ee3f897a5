"""Steps on a GPU, replayed from a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class StepGraph:
    """One step of all models in one pass, captured once.

    Args:
        take_step: from tokens (models, batch, T) and targets (models, batch, q) to losses (models,)
        tokens: where the step reads tokens.
        targets: where it reads targets.
        state: all that a step changes; it is as before after the capture.
        stream: to capture on.
    """

    def __init__(
        self,
        take_step: Callable[[Tensor, Tensor], Tensor],
        tokens: Tensor,
        targets: Tensor,
        state: Sequence[Tensor],
        stream: torch.cuda.Stream,
    ) -> None:
        self.tokens, self.targets = tokens, targets
        kept = [value.detach().clone() for value in state]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True")  # of Adam, which here is not yet captured
            for _ in range(3):  # what CUDA allocates lazily must be there before the capture
                take_step(tokens, targets)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream):
            self.losses = take_step(tokens, targets)
        with torch.no_grad():
            for value, before in zip(state, kept, strict=True):
                value.copy_(before)

    def replay(self, tokens: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """One step on a batch for each model; the losses (models,), which the next step overwrites."""
        torch.stack(list(tokens), out=self.tokens)
        torch.stack(list(targets), out=self.targets)
        self.graph.replay()
        return self.losses
