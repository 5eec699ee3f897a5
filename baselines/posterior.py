"""What every posterior method returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mdbench.core.errors import InputError
from mdbench.core.verdict import Verdict
from mdbench.tasks import Predictive, Task


@dataclass(frozen=True)
class Gate:
    """One gate, applied to every sequence and prefix.

    Attributes:
        name: what is held against the limit.
        limit: the rule, as text: ``"< 1.01"``.
        values: (B, P) what was found; NaN where it is not defined, which never passes.
        passed: (B, P), or None where the gate does not apply to the method.
    """

    name: str
    limit: str
    values: Float[np.ndarray, "B P"] | None
    passed: Bool[np.ndarray, "B P"] | None

    def verdict(self, sequence: int) -> Verdict:
        """``pass``, ``fail`` or ``not applicable`` for one sequence, over all its prefixes."""
        if self.passed is None:
            return Verdict.NOT_APPLICABLE
        return Verdict.PASS if self.passed[sequence].all() else Verdict.FAIL


@dataclass(frozen=True)
class Draws:
    """Draws from the posterior.

    Attributes:
        weights: (C, D, B, P, m) λ, by chain, draw, sequence, prefix and lag.
        stats: of the sampler, each (C, D, B, P): ``diverging``, ``energy``, ``n_steps`` where it has them.
        settings: what the sampler was told (numbers), for whoever reads the file.
        next_token: (C, D, B, P, q) what each draw says of the next token, where its method knows that with less noise
            than p(· | θ, y) has.
    """

    weights: Float[np.ndarray, "C D B P m"]
    stats: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    next_token: Float[np.ndarray, "C D B P q"] | None = None


@dataclass(frozen=True)
class Posterior:
    """Posterior of the mixture weights λ for a batch of sequences, at some of their prefixes.

    Exact methods bound their ``error``; sampling methods state standard errors; the others know neither.

    Attributes:
        method: name of the baseline that made it.
        lengths: (P,) the prefix lengths, ascending; a prefix of length m gives the prior.
        mean: (B, P, m) E[λ | y_1..y_length].
        sd: (B, P, m) posterior standard deviations.
        log_evidence: (B, P) log p(y_{m+1}..y_length | y_1..y_m), in nats; None where the method has none.
        error: (B,) bound, over the prefixes, on the absolute error of ``mean`` and on that of ``log_evidence`` relative
            to 1 + |log_evidence|; None where there is no bound.
        mean_se: (B, P, m) standard error of ``mean`` (MCSE); None where the method does not sample.
        next_token_se: (B, P, q) standard error of the next-token probabilities; likewise.
        checks_made: the gates of the method, applied.
        draws: where the method has them.
        next_token: (B, P, q) the mean of p(· | θ, y) over draws of θ, where θ are no weights, whose mean would do.
        site: the NumPyro site of θ, whose numbers in a row stand for the weights above.
    """

    method: str
    lengths: tuple[int, ...]
    mean: Float[np.ndarray, "B P m"]
    sd: Float[np.ndarray, "B P m"]
    log_evidence: Float[np.ndarray, "B P"] | None = None
    error: Float[np.ndarray, " B"] | None = None
    mean_se: Float[np.ndarray, "B P m"] | None = None
    next_token_se: Float[np.ndarray, "B P q"] | None = None
    checks_made: tuple[Gate, ...] = ()
    draws: Draws | None = None
    next_token: Float[np.ndarray, "B P q"] | None = None
    site: str = "weights"

    def predictive(self, task: Task, contexts: Int[np.ndarray, "B T"]) -> Predictive:
        """The next token after each prefix.

        Of a mixture p at E[λ | y], which is p_B(· | y) of docs/mathematics.md, section 1 if that is exact.
        """
        if self.next_token is None:
            by_length = [task.truth(self.mean[:, p], contexts[:, :length]) for p, length in enumerate(self.lengths)]
            probs = np.stack(by_length, axis=1)
        else:
            probs = self.next_token
        # Each weight errs by at most that, and no entry of a component's row exceeds 1.
        error = np.zeros(len(contexts)) if self.error is None else self.mean.shape[-1] * self.error
        bound = np.repeat(error[:, None], len(self.lengths), axis=1)
        return Predictive(probs, bound, np.zeros(probs.shape) if self.next_token_se is None else self.next_token_se)

    @property
    def failed(self) -> Bool[np.ndarray, " B"]:
        """Sequences that fail a gate at some prefix."""
        failed = np.zeros(len(self.mean), dtype=bool)
        for check in self.checks_made:
            if check.passed is not None:
                failed |= ~check.passed.all(axis=1)
        return failed

    def to_arviz(self, log_likelihood: dict[str, np.ndarray] | None = None) -> Any:
        """The draws as ArviZ data: variable ``weights`` with the dimensions chain, draw, sequence, length and lag.

        Where θ are no weights, its site's name, and its numbers in a row in place of the lags.

        Groups: posterior, sample_stats where the sampler has any, checks_made (1 where a sequence passes), and
        log_likelihood where it is given: ``values`` (C, D, n), and the ``sequence`` and ``position`` of each of these.

        Raises:
            InputError: the method has no draws.
        """
        if self.draws is None:
            raise InputError(f"baseline '{self.method}' has no draws.")
        import arviz
        import xarray

        weights = self.draws.weights
        if len(weights) == 1 and weights.shape[1] % 4 == 0:  # independent draws: as four chains, which ArviZ wants
            weights = weights.reshape(4, -1, *weights.shape[2:])
        chains, draws, batch, _, m = weights.shape
        coords = {
            "chain": np.arange(chains),
            "draw": np.arange(draws),
            "sequence": np.arange(1, batch + 1),
            "length": list(self.lengths),
        }
        dims = tuple(coords)
        entry = "lag" if self.site == "weights" else f"{self.site}_entry"
        numbered = coords | {entry: np.arange(1, m + 1)}
        posterior = xarray.Dataset({self.site: ((*dims, entry), weights)}, coords=numbered)
        settings = {"inference_library": "mdbench", "method": self.method} | self.draws.settings
        posterior.attrs |= settings
        groups: dict[str, Any] = {"posterior": posterior}
        if self.draws.stats:
            groups["sample_stats"] = xarray.Dataset(
                {name: (dims, values) for name, values in self.draws.stats.items()}, coords=coords, attrs=settings
            )
        checks = {
            check.name: (dims[2:], check.passed.astype(np.int8), {"limit": check.limit})
            for check in self.checks_made
            if check.passed is not None
        }
        if checks:
            groups["checks_made"] = xarray.Dataset(checks, coords={d: coords[d] for d in dims[2:]})
        if log_likelihood is not None:
            values = log_likelihood["values"].reshape(chains, draws, -1)
            places = {name: ("transition", log_likelihood[name]) for name in ("sequence", "position")}
            groups["log_likelihood"] = xarray.Dataset(
                {"token": (("chain", "draw", "transition"), values)},
                coords={name: coords[name] for name in ("chain", "draw")} | places,
            )
        if hasattr(arviz, "InferenceData"):  # ArviZ before 1.0; afterwards xarray's DataTree takes its place
            return arviz.InferenceData(**groups)
        return xarray.DataTree.from_dict(groups)
