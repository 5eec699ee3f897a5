r"""The disentangled transformer of SPEC section 4: one head, no MLP, residual by concatenation.

h⁰_i = one-hot(y_i);    layer l, causal:    e_ij = h_iᵀ (W_A h_j + R_A[i - j]),    A = softmax_j(e),
ĥ_i = Σ_j A_ij [h_j ; R_V[i - j]],    h_i ← [h_i ; ĥ_i];    output W_O h_T (linear: it need not lie on the simplex).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mdbench.device import one_thread


class DisentangledTransformer(nn.Module):
    """Predicts the token after a context of one fixed length.

    Args:
        n_states: q, so that d_0 = q.
        length: T; the relative-position tables hold the offsets 0..T-1.
        depth: number of layers; d_{l+1} = 2 d_l + d_rel.
        d_rel: width of the relative-position values R_V, at least the order m.
    """

    def __init__(self, n_states: int, length: int, depth: int, d_rel: int) -> None:
        super().__init__()
        self.n_states, self.length = n_states, length
        widths = [n_states]
        for _ in range(depth):
            widths.append(2 * widths[-1] + d_rel)
        *inner, width = widths
        layers = nn.ModuleList(DisentangledAttention(d, length, d_rel) for d in inner)
        self.layers: list[DisentangledAttention] = layers  # type: ignore[assignment]  # what the ModuleList holds
        self.readout = nn.Parameter(torch.zeros(n_states, width))  # W_O

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Draw every parameter from N(0, scale²)."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0.0, scale, generator=generator)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch q"]:
        """W_O h_T for each context."""
        h = F.one_hot(tokens, self.n_states).to(self.readout.dtype)
        for layer in self.layers[:-1]:
            h = torch.cat([h, layer(h)], dim=-1)
        # Only position T is read, so the last layer computes no other.
        last = h[:, -1:]
        h = torch.cat([last, self.layers[-1].last_row(h)], dim=-1)
        return h[:, 0] @ self.readout.T

    def attention_maps(self, tokens: Int[Tensor, "batch length"]) -> list[Float[Tensor, "batch length length"]]:
        """A of every layer, rows = queries."""
        h = F.one_hot(tokens, self.n_states).to(self.readout.dtype)
        maps = []
        for layer in self.layers:
            maps.append(layer.attention(h))
            h = torch.cat([h, layer.values(maps[-1], h)], dim=-1)
        return maps


def run_model(model: nn.Module, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
    """The model's output in float64, computed on the model's device."""
    device = next(model.parameters()).device
    with one_thread(), torch.no_grad():
        return model(torch.from_numpy(contexts).to(device)).cpu().numpy().astype(np.float64)


class DisentangledAttention(nn.Module):
    """One layer: W_A (d, d), R_A (T, d), R_V (T, d_rel)."""

    future: Tensor  # -inf above the diagonal

    def __init__(self, width: int, length: int, d_rel: int) -> None:
        super().__init__()
        self.attend = nn.Parameter(torch.zeros(width, width))  # W_A
        self.attend_offset = nn.Parameter(torch.zeros(length, width))  # R_A
        self.value_offset = nn.Parameter(torch.zeros(length, d_rel))  # R_V
        future = torch.full((length, length), -torch.inf).triu(diagonal=1)
        self.register_buffer("future", future, persistent=False)

    def forward(self, h: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch length 2d+d_rel-d"]:
        return self.values(self.attention(h), h)

    def attention(self, h: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch length length"]:
        by_offset = h @ self.attend_offset.flip(0).T  # entry k belongs to offset T-1-k
        scores = (h @ self.attend) @ h.transpose(1, 2) + _offsets_to_keys(by_offset)
        return torch.softmax(scores + self.future, dim=-1)

    def values(self, attention: Float[Tensor, "batch length length"], h: Float[Tensor, "batch length d"]) -> Tensor:
        return torch.cat([attention @ h, _keys_to_offsets(attention) @ self.value_offset.flip(0)], dim=-1)

    def last_row(self, h: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch 1 d+d_rel"]:
        """``forward`` at position T alone: there, key j stands at offset T-1-j."""
        query = h[:, -1:]
        scores = (query @ self.attend) @ h.transpose(1, 2) + query @ self.attend_offset.flip(0).T
        attention = torch.softmax(scores, dim=-1)
        return torch.cat([attention @ h, attention @ self.value_offset.flip(0)], dim=-1)


def _offsets_to_keys(by_offset: Float[Tensor, "batch T T"]) -> Float[Tensor, "batch T T"]:
    """out[i, j] = by_offset[i, T-1-(i-j)] for j <= i (above the diagonal: numbers that the causal mask removes).

    The shift of Transformer-XL: views and one padding instead of a gather, whose gradient is slow.
    """
    batch, length, _ = by_offset.shape
    padded = F.pad(by_offset, (1, 0)).reshape(batch, length + 1, length)
    return padded[:, 1:]


def _keys_to_offsets(attention: Float[Tensor, "batch T T"]) -> Float[Tensor, "batch T T"]:
    """The inverse: out[i, T-1-(i-j)] = attention[i, j] for j <= i and 0 elsewhere; needs a causal ``attention``."""
    batch, length, _ = attention.shape
    padded = F.pad(attention, (0, 0, 1, 0)).reshape(batch, length, length + 1)
    return padded[:, :, 1:]
