r"""Hidden Markov models with known matrices: one, or a latent choice among several.

    k ~ Categorical(ρ),   h_1 ~ μ_k,   h_t ~ A_k(h_{t-1}, ·),   y_t ~ B_k(h_t, ·)

| symbol | site      | shape (one sequence) |
|--------|-----------|----------------------|
| k      | `number`  | ()                   |
| θ      | `weights` | (K,), one-hot at k: which model; of several models |
| θ      | `path`    | (T,) the hidden states; of a single model |
| h_t    | `hidden`  | (T,)                 |
| y_t    | `token`   | (T,)                 |

Of several models θ is the number k, and the path is summed out; of a single one it is the path, so that "KL to the
truth" says how well the hidden state is known. Nothing is given. Gold is the forward filter of each model (Rabiner,
Proc. IEEE 77:257-286, 1989), and of several their mixture (:mod:`mdbench.tasks.finite`), x_t(k) = p_k(y_t | y_1..t-1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError, shown
from mdbench.tasks.finite import FiniteMixture, check_weights
from mdbench.tasks.task import LENGTHS, Rows, Whole, as_floats, check_row

PARTS = ("initial", "transition", "emission")


@dataclass(frozen=True, eq=False, init=False)
class HMM(FiniteMixture):
    """Hidden Markov models with known matrices.

    Give the matrices of one model, or ``models``, a list of tables with these; kept are arrays with an axis for models.

    Attributes:
        initial: (H,) μ, of the first hidden state; kept as (K, H).
        transition: (H, H) A, row-stochastic; kept as (K, H, H).
        emission: (H, q) B, row-stochastic; kept as (K, H, q).
        model_probs: (K,) ρ; all alike if none are given.
    """

    name: str
    initial: Float[np.ndarray, "K H"] | None = None
    transition: Float[np.ndarray, "K H H"] | None = None
    emission: Float[np.ndarray, "K H q"] | None = None
    models: list[Mapping[str, Any]] | None = None
    model_probs: Float[np.ndarray, " K"] | None = None
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "hmm"
    kind: ClassVar[str] = "a hidden Markov model with known matrices"

    def __init__(
        self,
        name: str,
        initial: Rows | None = None,
        transition: Rows | None = None,
        emission: Rows | None = None,
        models: Sequence[Mapping[str, Any]] | None = None,
        model_probs: Rows | None = None,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        given = {"initial": initial, "transition": transition, "emission": emission}
        if models is None:
            several = _split(given)
        elif any(part is not None for part in given.values()):
            raise InputError("give initial, transition and emission, or models, not both.")
        else:
            several = [_as_table(each, k) for k, each in enumerate(models, start=1)]
        if not several:
            raise InputError("models is empty; give at least one.")
        checked = [_checked(each, f" of model {k}" if len(several) > 1 else "") for k, each in enumerate(several, 1)]
        stacked = _stacked(checked)
        k = len(checked)
        probs = np.full(k, 1 / k) if model_probs is None else check_weights(model_probs, "model_probs")
        if len(probs) != k:
            raise InputError(f"model_probs has {len(probs)} numbers for {k} models.")
        for array in (*stacked.values(), probs):
            array.setflags(write=False)
        self.settle(name, lengths, version, **stacked, models=None, model_probs=probs)

    @property
    def matrices(self) -> tuple[Any, Any, Any]:
        """μ, A and B of every model."""
        return self.initial, self.transition, self.emission

    @property
    def n_states(self) -> int:  # type: ignore[override]
        """q, the size of the vocabulary."""
        return self.matrices[2].shape[-1]

    @property
    def n_components(self) -> int:
        """K, the number of models."""
        return len(self.matrices[0])

    @property
    def single(self) -> bool:
        """Whether there is one model, so that θ is the hidden path."""
        return self.n_components == 1

    @property
    def theta(self) -> str:  # type: ignore[override]
        """The site of θ."""
        return "path" if self.single else "weights"

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        models = "one model" if self.single else f"{self.n_components} models"
        return f"{super().summary}, {models} of {self.matrices[0].shape[1]} hidden states"

    @property
    def given(self) -> int:
        """Every token is predicted."""
        return 0

    @property
    def positive(self) -> bool:
        """Whether every hidden state emits every token."""
        return bool((self.matrices[2] > 0).all())

    @property
    def support(self) -> tuple[Float[Any, "K K"], Float[Any, " K"]]:
        """Each model alone."""
        return np.eye(self.n_components), self.model_probs

    def any_likelihoods(self, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """p_k(y_t | y_1..t-1) of every model."""
        return self._filtered(tokens)[0]

    def rows(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B K q"]:
        """What every model says of the next token."""
        return np.einsum("bkh,khq->bkq", self._filtered(contexts)[1], self.matrices[2])

    def _filtered(
        self, tokens: Int[np.ndarray, "B T"]
    ) -> tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B K H"]]:
        """p_k(y_t | y_1..t-1), and the distribution of the next hidden state."""
        initial, transition, emission = self.matrices
        hidden = np.broadcast_to(initial, (len(tokens), *initial.shape))
        x = np.empty((*tokens.shape, len(initial)))
        for t in range(tokens.shape[1]):
            joint = hidden * emission[:, :, tokens[:, t]].transpose(2, 0, 1)
            x[:, t] = joint.sum(axis=-1)
            # After what a model cannot emit it has no say, so its state may be any.
            state = np.where(x[:, t, :, None] > 0, joint / np.where(x[:, t] > 0, x[:, t], 1.0)[..., None], initial)
            hidden = np.einsum("bkh,khi->bki", state, transition)
        return x, hidden

    def truth(self, theta: Any, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """Of the model with that number; of a single one after its hidden state."""
        if not self.single:
            return super().truth(theta, contexts)
        _, transition, emission = self.matrices
        return transition[0][np.asarray(theta)[:, contexts.shape[1] - 1].astype(int)] @ emission[0]

    def theta_of(self, theta: Float[np.ndarray, "B ..."], length: int) -> Float[np.ndarray, "B ..."]:
        """The path up to there."""
        return theta[:, :length] if self.single else theta

    @property
    def prior_mean(self) -> Float[np.ndarray, " K"]:
        """ρ; of a single model 1, since of a path there is no mean."""
        return np.asarray(self.model_probs)

    def prior_predictive(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """Of several models their filters in equal parts; of a single one the marginal of the next token."""
        if not self.single:
            return super().prior_predictive(contexts)
        initial, transition, emission = self.matrices
        state = initial[0] @ np.linalg.matrix_power(transition[0], contexts.shape[1])
        return np.broadcast_to(state @ emission[0], (len(contexts), self.n_states)).copy()

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence; given tokens, the path is summed out and k alone is left, enumerated."""
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        from numpyro.contrib.control_flow import scan

        matrices = [jnp.asarray(part) for part in self.matrices]
        chosen = dist.Categorical(probs=jnp.asarray(self.model_probs))
        number = numpyro.sample("number", chosen, infer={"enumerate": "parallel"})
        numpyro.deterministic("weights", jax.nn.one_hot(number, self.n_components, dtype=float))
        if tokens is not None:
            of_each = jax.vmap(_log_evidence, in_axes=(0, 0, 0, None))
            numpyro.factor("tokens", of_each(matrices[0], matrices[1], matrices[2], tokens)[number])
            return tokens
        if length is None:
            raise ValueError("give tokens to condition on, or a length to draw")
        initial, transition, emission = (part[number] for part in matrices)

        def step(state: Any, _: None) -> tuple[Any, Any]:
            hidden = numpyro.sample("hidden", dist.Categorical(probs=state))
            token = numpyro.sample("token", dist.Categorical(probs=emission[hidden]))
            return transition[hidden], (hidden, token)

        path, drawn = scan(step, initial, None, length=length)[1]
        numpyro.deterministic("path", path.astype(float))  # as every θ is
        return drawn

    def relabelled(self, order: Int[np.ndarray, " q"]) -> HMM:
        """New state k is the old state ``order[k]``."""
        initial, transition, emission = self.matrices
        return type(self)("relabelled", initial, transition, emission[..., order], model_probs=self.model_probs)


def _log_evidence(initial: Any, transition: Any, emission: Any, tokens: Any) -> Any:
    """Log p_k(y_1..T), in jax."""
    import jax
    import jax.numpy as jnp

    def step(state: Any, token: Any) -> tuple[Any, Any]:
        joint = state * emission[:, token]
        x = joint.sum()
        return joint / jnp.where(x > 0, x, 1.0) @ transition, jnp.log(x)

    return jax.lax.scan(step, initial, tokens)[1].sum()


def _as_table(given: Any, k: int) -> dict[str, Any]:
    if not isinstance(given, Mapping) or set(given) != set(PARTS):
        raise InputError(f"model {k} must be a table with initial, transition and emission, not {shown(given)}.")
    return dict(given)


def _split(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One model, or several along the first axis, as they are kept."""
    for part, value in given.items():
        if value is None:
            raise InputError(f"there is no '{part}'; give initial, transition and emission, or models.")
    arrays = {part: as_floats(value, part) for part, value in given.items()}
    if arrays["initial"].ndim != 2:
        return [arrays]
    if len({len(array) if array.ndim else 0 for array in arrays.values()}) > 1:
        raise InputError("initial, transition and emission are of different numbers of models.")
    return [{part: array[k] for part, array in arrays.items()} for k in range(len(arrays["initial"]))]


def _checked(given: Mapping[str, Any], of: str) -> dict[str, Float[np.ndarray, "..."]]:
    """The three parts of one model, each a distribution a row."""
    parts = {part: as_floats(given[part], f"{part}{of}") for part in PARTS}
    if parts["initial"].ndim != 1 or not len(parts["initial"]):
        raise InputError(f"initial{of} must be a list of probabilities, one for each hidden state.")
    h = len(parts["initial"])
    if parts["transition"].shape != (h, h):
        raise InputError(f"transition{of} must have {h} rows of {h} numbers, as initial has {h}.")
    if parts["emission"].ndim != 2 or len(parts["emission"]) != h or parts["emission"].shape[1] < 2:
        raise InputError(f"emission{of} must have {h} rows, one for each hidden state, of at least 2 numbers.")
    for part, array in parts.items():
        for i, row in enumerate(np.atleast_2d(array), start=1):
            check_row(row, f"{part}{of}" if array.ndim == 1 else f"row {i} of {part}{of}")
    return parts


def _stacked(models: Sequence[Mapping[str, Any]]) -> dict[str, Float[np.ndarray, "K ..."]]:
    """With as many hidden states in all: those that a model lacks are never entered."""
    q = {each["emission"].shape[1] for each in models}
    if len(q) > 1:
        raise InputError(f"models emit different numbers of states: {', '.join(map(str, sorted(q)))}.")
    (n_states,) = q
    most = max(len(each["initial"]) for each in models)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for each in models:
        more = most - len(each["initial"])
        parts["initial"].append(np.pad(each["initial"], (0, more)))
        away = np.pad(each["transition"], ((0, more), (0, more)))
        away[most - more :, 0] = 1.0
        parts["transition"].append(away)
        parts["emission"].append(np.pad(each["emission"], ((0, more), (0, 0)), constant_values=1 / n_states))
    return {part: np.stack(arrays) for part, arrays in parts.items()}
