r"""The two transformers that mdbench trains. Both predict the token after a context.

Disentangled (docs/mathematics.md, section 4): one head, no MLP, residual by concatenation.
h⁰_i = one-hot(y_i);    layer l, causal:    e_ij = h_iᵀ (W_A h_j + R_A[i - j]),    A = softmax_j(e),
ĥ_i = Σ_j A_ij [h_j ; R_V[i - j]],    h_i ← [h_i ; ĥ_i];    output W_O h_T (linear: it need not lie on the simplex).

Standard: h⁰_i = E[y_i]; layer l adds a multi-head attention of the normalised h, with relative keys and values
(Shaw et al., arXiv 1803.02155), then an MLP of the normalised h; output W_O norm(h_T).

Only position T is read, so in the last layer nothing else is computed. A shorter context takes the tables' first rows.

PyTorch's forward hooks fire on each layer, on its attention (the module ``softmax``: scores in, attention out; in the
last layer those of position T alone) and on the readout (``read``: h_T in, output out).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdbench.core.device import n_cores, one_thread
from mdbench.core.errors import InputError

MOST_TOGETHER = 64  # sequences in one pass
MAP_ENTRIES = 2**18  # of a head's attention maps for them: with more they leave a core's cache, and ask for memory anew


class DisentangledTransformer(nn.Module):
    """The paper's model.

    Args:
        n_states: q, so that d_0 = q.
        length: T, the longest context; the relative-position tables hold the offsets 0..T-1.
        depth: number of layers; d_{l+1} = 2 d_l + d_rel.
        d_rel: width of the relative-position values R_V, at least the order m.
    """

    def __init__(self, n_states: int, length: int, depth: int, d_rel: int) -> None:
        super().__init__()
        self.n_states, self.length, self.depth = n_states, length, depth
        widths = [n_states]
        for _ in range(depth):
            widths.append(2 * widths[-1] + d_rel)
        *inner, width = widths
        layers = nn.ModuleList(DisentangledAttention(d, length, d_rel) for d in inner)
        self.layers: list[DisentangledAttention] = layers  # type: ignore[assignment]  # what the ModuleList holds
        self.readout = nn.Parameter(torch.zeros(n_states, width))  # W_O
        self.read = Readout()

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Draw every parameter from N(0, scale²)."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0.0, scale, generator=generator)

    @torch.no_grad()
    def begin_with(self, small: DisentangledTransformer) -> None:
        """Take the parameters of a model that is no deeper and made for no longer contexts.

        Its last layer but one (or its only one) is followed by a copy of itself for each missing layer, and what read
        that layer reads the mean of it and its copies. The output is the same, but for the entries that the small model
        does not have: they keep a tenth of their values. Training finds uses for copies that it does not find for
        layers added above (docs/trained_weights.md).
        """
        _check_smaller(small, self)
        layers = iter(self.layers)
        small_from_large = torch.eye(self.n_states).to(self.readout)  # takes this residual stream to the small model's
        for k, layer in enumerate(small.layers):
            n_copies = 1 + (self.depth - small.depth if k == max(small.depth - 2, 0) else 0)
            width, large_width = small_from_large.shape
            d_rel = layer.value_offset.shape[1]
            starts = []  # in this stream, of what each copy appends
            for target in islice(layers, n_copies):
                starts.append(target.attend.shape[0])
                known = nn.functional.pad(small_from_large, (0, starts[-1] - large_width))
                inside = known.any(dim=0)
                _take(target.attend, known.T @ layer.attend @ known, inside[:, None] & inside)
                _take(target.attend_offset, _lengthened(layer.attend_offset, self.length) @ known, inside)
                target.value_offset.copy_(_lengthened(layer.value_offset, self.length))
            mean = small_from_large.new_zeros(2 * width + d_rel, 2 * starts[-1] + d_rel)
            mean[:width, :large_width] = small_from_large
            for start in starts:
                mean[width : 2 * width, start : start + large_width] = small_from_large / n_copies
                mean[2 * width :, 2 * start : 2 * start + d_rel] = torch.eye(d_rel).to(mean) / n_copies
            small_from_large = mean
        _take(self.readout, small.readout @ small_from_large, small_from_large.any(dim=0))

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch q"]:
        """W_O h_T for each context."""
        h = one_hot(tokens, self.n_states, self.readout.dtype)
        for layer in self.layers[:-1]:
            h = layer(h)
        return self.read(self.layers[-1](h, last_only=True)[:, 0], self.readout)

    def attention_maps(self, tokens: Int[Tensor, "batch length"]) -> list[Float[Tensor, "batch length length"]]:
        """A of every layer, rows = queries.

        Raises:
            InputError: the contexts are too long for the model, or hold no states of it.
        """
        _check_tokens(tokens, self.n_states, self.length)
        return self.trace(tokens)[1]

    def trace(self, tokens: Int[Tensor, "batch length"]) -> tuple[list[Tensor], list[Tensor]]:
        """The residual stream before each layer and after the last, (batch, length, d); and :meth:`attention_maps`."""
        states, maps = [one_hot(tokens, self.n_states, self.readout.dtype)], []
        for layer in self.layers:
            maps.append(layer.attention(states[-1]))
            states.append(layer.append_values(states[-1], maps[-1]))
        return states, maps


class DisentangledAttention(nn.Module):
    """One layer, which appends to what it reads: W_A (d, d), R_A (T, d), R_V (T, d_rel)."""

    future: Tensor  # -inf above the diagonal

    def __init__(self, width: int, length: int, d_rel: int) -> None:
        super().__init__()
        self.attend = nn.Parameter(torch.zeros(width, width))  # W_A
        self.attend_offset = nn.Parameter(torch.zeros(length, width))  # R_A
        self.value_offset = nn.Parameter(torch.zeros(length, d_rel))  # R_V
        self.softmax = nn.Softmax(dim=-1)
        self.register_buffer("future", future_mask(length), persistent=False)

    def forward(self, h: Float[Tensor, "batch length d"], last_only: bool = False) -> Float[Tensor, "batch n wider"]:
        """At all positions (n = length), or at T alone (n = 1)."""
        return self.last_row(h) if last_only else self.append_values(h, self.attention(h))

    def attention(self, h: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch length length"]:
        length = h.shape[1]
        by_offset = h @ farthest_first(self.attend_offset, length).T
        scores = torch.baddbmm(offsets_to_keys(by_offset), h @ self.attend, h.transpose(1, 2))
        return self.softmax(scores + self.future[:length, :length])

    def append_values(
        self, h: Float[Tensor, "batch length d"], attention: Float[Tensor, "batch length length"]
    ) -> Float[Tensor, "batch length wider"]:
        offsets = keys_to_offsets(attention) @ farthest_first(self.value_offset, h.shape[1])
        return torch.cat([h, attention @ h, offsets], dim=-1)

    def last_row(self, h: Float[Tensor, "batch length d"]) -> Float[Tensor, "batch 1 wider"]:
        """There, key j stands at offset T-1-j."""
        query, length = h[:, -1:], h.shape[1]
        scores = (query @ self.attend) @ h.transpose(1, 2) + query @ farthest_first(self.attend_offset, length).T
        attention = self.softmax(scores)
        return torch.cat([query, attention @ h, attention @ farthest_first(self.value_offset, length)], dim=-1)


class StandardTransformer(nn.Module):
    """Pre-norm, multi-head, with MLPs.

    Args:
        n_states: q.
        length: T, the longest context; the relative-position tables hold the offsets 0..T-1.
        depth: number of layers.
        width: of the residual stream; the MLPs have twice that.
        heads: of each attention; they divide the width.
    """

    def __init__(self, n_states: int, length: int, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.n_states, self.length, self.depth = n_states, length, depth
        self.embedding = nn.Parameter(torch.zeros(n_states, width))  # E
        layers = nn.ModuleList(StandardLayer(width, length, heads) for _ in range(depth))
        self.layers: list[StandardLayer] = layers  # type: ignore[assignment]  # what the ModuleList holds
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Parameter(torch.zeros(n_states, width))  # W_O
        self.read = Readout()

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Draw every matrix and table from N(0, scale²); biases are 0, norms' weights 1."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, scale, generator=generator)
                else:
                    parameter.fill_(float(name.endswith("norm.weight")))

    @torch.no_grad()
    def begin_with(self, small: StandardTransformer) -> None:
        """Take the parameters of a model that is no deeper and made for no longer contexts.

        What the layers above its own add to the residual stream counts a tenth.
        """
        _check_smaller(small, self)
        for layer in self.layers[small.depth :]:
            for name, weights in layer.named_parameters():
                if name in ("mix.weight", "mlp.2.weight"):
                    weights.mul_(0.1)
        parameters = dict(self.named_parameters())
        for name, values in small.named_parameters():
            parameters[name].copy_(_lengthened(values, self.length) if name.endswith("_offset") else values)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch q"]:
        """W_O norm(h_T) for each context."""
        h = one_hot(tokens, self.n_states, self.embedding.dtype) @ self.embedding
        for layer in self.layers[:-1]:
            h = layer(h)
        return self.read(self.norm(self.layers[-1](h, last_only=True)[:, 0]), self.readout)

    def attention_maps(self, tokens: Int[Tensor, "batch length"]) -> list[Float[Tensor, "batch heads length length"]]:
        """A of every layer and head, rows = queries.

        Raises:
            InputError: the contexts are too long for the model, or hold no states of it.
        """
        _check_tokens(tokens, self.n_states, self.length)
        return self.trace(tokens)[1]

    def trace(self, tokens: Int[Tensor, "batch length"]) -> tuple[list[Tensor], list[Tensor]]:
        """The residual stream before each layer and after the last, (batch, length, width); and the maps."""
        states, maps = [one_hot(tokens, self.n_states, self.embedding.dtype) @ self.embedding], []
        for layer in self.layers:
            maps.append(layer.attention(*layer.split(layer.attention_norm(states[-1]))[:2]))
            states.append(layer(states[-1]))
        return states, maps


class StandardLayer(nn.Module):
    """Attention with relative keys and values, then an MLP, each added to what it reads."""

    future: Tensor

    def __init__(self, width: int, length: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.key_offset = nn.Parameter(torch.zeros(length, width // heads))
        self.value_offset = nn.Parameter(torch.zeros(length, width // heads))
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.softmax = nn.Softmax(dim=-1)
        self.register_buffer("future", future_mask(length), persistent=False)

    def forward(
        self, h: Float[Tensor, "batch length width"], last_only: bool = False
    ) -> Float[Tensor, "batch n width"]:
        """At all positions (n = length), or at T alone (n = 1)."""
        if last_only:
            return self.last_row(h)
        query, key, value = self.split(self.attention_norm(h))
        attention = self.attention(query, key)
        heads = attention @ value + keys_to_offsets(attention) @ farthest_first(self.value_offset, h.shape[1])
        return self.add_mlp(h + self.join(heads))

    def last_row(self, h: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch 1 width"]:
        query, key, value = self.split(self.attention_norm(h))
        query, length = query[:, :, -1:], h.shape[1]
        scores = query @ key.transpose(-1, -2) + query @ farthest_first(self.key_offset, length).T
        attention = self.softmax(scores / query.shape[-1] ** 0.5)
        heads = attention @ value + attention @ farthest_first(self.value_offset, length)
        return self.add_mlp(h[:, -1:] + self.join(heads))

    def split(self, h: Float[Tensor, "batch length width"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, length, width/heads)."""
        parts = self.queries_keys_values(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def attention(
        self, query: Float[Tensor, "batch heads length d"], key: Float[Tensor, "batch heads length d"]
    ) -> Float[Tensor, "batch heads queries length"]:
        length = key.shape[-2]
        scores = query @ key.transpose(-1, -2) + offsets_to_keys(query @ farthest_first(self.key_offset, length).T)
        return self.softmax(scores / query.shape[-1] ** 0.5 + self.future[:length, :length])

    def join(self, heads: Float[Tensor, "batch heads n d"]) -> Float[Tensor, "batch n width"]:
        return self.mix(heads.transpose(1, 2).flatten(2))

    def add_mlp(self, h: Tensor) -> Tensor:
        return h + self.mlp(self.mlp_norm(h))


class Readout(nn.Module):
    """The last linear map: a module without weights of its own, so that what is read can be seen and replaced."""

    def forward(self, h: Float[Tensor, "batch d"], readout: Float[Tensor, "q d"]) -> Float[Tensor, "batch q"]:
        return h @ readout.T


Transformer = DisentangledTransformer | StandardTransformer

# --------------------------------------------------------------------------------------------------- common parts


def _check_smaller(small: Transformer, large: Transformer) -> None:
    if small.depth > large.depth or small.length > large.length:
        raise ValueError(
            f"a model of {large.depth} layers for {large.length} tokens cannot begin with one of {small.depth} for "
            f"{small.length}."
        )


def _take(parameter: nn.Parameter, values: Tensor, inside: Tensor) -> None:
    """A smaller model's values where it has such an entry; elsewhere a tenth of what stands there."""
    parameter.copy_(torch.where(inside, values, 0.1 * parameter))


def _lengthened(table: Float[Tensor, "T d"], length: int) -> Float[Tensor, "length d"]:
    """A table of relative positions for longer contexts.

    Offsets beyond its context get what its middle one has: its farthest ones were seen at few positions (from T = 32 to
    64 the middle one starts at an excess KL of 0.006, the farthest at 0.014, random values at 0.009).
    """
    return torch.cat([table, table[len(table) // 2].expand(length - len(table), -1)])


def _check_tokens(tokens: Tensor, n_states: int, length: int) -> None:
    if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= length:
        raise InputError(
            f"contexts must be tokens (batch, length) with a length from 1 to {length}, not {tuple(tokens.shape)}."
        )
    if tokens.is_floating_point() or ((tokens < 0) | (tokens >= n_states)).any():
        raise InputError(f"tokens must be whole numbers from 0 to {n_states - 1}.")


def one_hot(tokens: Int[Tensor, "batch length"], n_states: int, dtype: torch.dtype) -> Float[Tensor, "batch length q"]:
    """As a comparison, which vmap and CUDA graphs can do (``F.one_hot`` looks at the values)."""
    return (tokens[..., None] == torch.arange(n_states, device=tokens.device)).to(dtype)


def future_mask(length: int) -> Float[Tensor, "length length"]:
    """-inf above the diagonal."""
    return torch.full((length, length), -torch.inf).triu(diagonal=1)


def farthest_first(table: Float[Tensor, "T d"], length: int) -> Float[Tensor, "length d"]:
    """The rows of the offsets length-1, .., 0 of a relative-position table: row k belongs to offset length-1-k."""
    return table[:length].flip(0)


def offsets_to_keys(by_offset: Float[Tensor, "... T T"]) -> Float[Tensor, "... T T"]:
    """out[i, j] = by_offset[i, T-1-(i-j)] for j <= i (above the diagonal: numbers that the causal mask removes).

    The shift of Transformer-XL: one copy and views instead of a gather, whose gradient is slow. (``cat`` and ``split``
    have gradients that fill nothing with zeros first, unlike padding and slicing.)
    """
    length = by_offset.shape[-1]
    column = by_offset.new_zeros(()).expand(*by_offset.shape[:-1], 1)
    padded = torch.cat([column, by_offset], dim=-1).flatten(-2)
    return padded.unflatten(-1, (length + 1, length)).split((1, length), dim=-2)[1]


def keys_to_offsets(attention: Float[Tensor, "... T T"]) -> Float[Tensor, "... T T"]:
    """The inverse: out[i, T-1-(i-j)] = attention[i, j] for j <= i and 0 elsewhere; needs a causal ``attention``."""
    length = attention.shape[-1]
    row = attention.new_zeros(()).expand(*attention.shape[:-2], 1, length)
    padded = torch.cat([row, attention], dim=-2).flatten(-2)
    return padded.unflatten(-1, (length, length + 1)).split((1, length), dim=-1)[1]


def part_size(length: int) -> int:
    """How many sequences of this length a CPU does best in one pass."""
    return max(1, min(MOST_TOGETHER, MAP_ENTRIES // length**2))


def run_model(model: nn.Module, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
    """The model's output in float64, computed on the model's device, some sequences at a time."""
    device = next(model.parameters()).device
    together = part_size(contexts.shape[1]) if device.type == "cpu" else MOST_TOGETHER
    parts = torch.from_numpy(contexts).to(device).split(together)

    def run(part: Tensor) -> Tensor:
        with torch.no_grad():  # of each thread its own
            return model(part)

    with one_thread(), ThreadPoolExecutor(n_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        outputs = list(map(run, parts) if device.type != "cpu" else pool.map(run, parts))
    return torch.cat(outputs).cpu().numpy().astype(np.float64)
