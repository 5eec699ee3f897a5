"""Variational inference with a full-rank normal on NumPyro's unconstrained space, for any model (NumPyro's SVI)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import StickBreakingTransform
from numpyro.infer import init_to_uniform
from numpyro.infer.autoguide import AutoMultivariateNormal

from mdbench.baselines.baseline import Contexts, Lengths
from mdbench.baselines.chains import run_padded, run_traced
from mdbench.baselines.laplace import normal_posterior
from mdbench.baselines.model import check_numbers, mtd_weights
from mdbench.baselines.posterior import Posterior
from mdbench.baselines.svi import Variational, optimised
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture, Task
from mdbench.tasks.sampling import rebuilt, split

SCALE = 0.3  # of the normal at the start


@dataclass(frozen=True)
class VILogisticNormal(Variational[Task]):
    """The normal in NumPyro's unconstrained coordinates that is nearest to the posterior in KL(guide ‖ posterior).

    Of a mixture these are the stick-breaking coordinates of λ, z summed out; of any other family those of θ in its own
    NumPyro model. How far off it is, it does not know.
    """

    name: ClassVar[str] = "vi_logistic_normal"

    def posterior(
        self, task: Task, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        contexts, x, wanted = self.prepare(task, contexts, lengths)
        own = None if isinstance(task, DirichletMixture) else task
        if isinstance(task, DirichletMixture):
            compiled, given, concentration = _compiled(self.steps), task.given, task.concentration
            theta: Callable[[Any], Any] = _weights

            def run(keys: jax.Array, rows: Int[np.ndarray, " chunk"], length: int) -> dict[str, np.ndarray]:
                return run_padded(compiled, keys, x[rows, : length - given], 1.0, concentration)
        else:
            shaping, arguments = split(task)
            of_own = _compiled_own(type(task), shaping, self.steps)
            theta = _theta(task, contexts[0])

            def run(keys: jax.Array, rows: Int[np.ndarray, " chunk"], length: int) -> dict[str, np.ndarray]:
                return run_traced(of_own, keys, contexts[rows, :length], arguments)

        fitted = self.fit(run, contexts, wanted, progress)
        location, root = (np.stack([p[name] for p in fitted], axis=1) for name in ("location", "root"))
        return normal_posterior(self, location, root, theta, contexts, wanted, own)

    def check_size(self, task: Task, length: int) -> None:
        """Raise :class:`InputError` where there is nothing to infer, or θ has too many numbers."""
        check_numbers(self.name, task)
        super().check_size(task, length)


def _weights(u: Float[np.ndarray, "S d"]) -> Float[np.ndarray, "S m"]:
    return np.asarray(_simplex(u))


@jax.jit
def _simplex(u: Float[jax.Array, "S d"]) -> Float[jax.Array, "S m"]:
    return StickBreakingTransform()(u)


def _guide(x: jax.Array, _concentration: Any) -> None:
    d = x.shape[1] - 1
    location = numpyro.param("location", jnp.zeros(d))
    root = numpyro.param("root", SCALE * jnp.eye(d), constraint=constraints.lower_cholesky)
    normal = dist.MultivariateNormal(location, scale_tril=root)
    numpyro.sample("weights", dist.TransformedDistribution(normal, StickBreakingTransform()))


@functools.lru_cache(maxsize=8)
def _compiled(steps: int) -> Callable[..., Any]:
    fit = functools.partial(optimised, mtd_weights, _guide, steps)
    return jax.jit(jax.vmap(fit, in_axes=(0, 0, None)))


@functools.lru_cache(maxsize=8)
def _compiled_own(family: type[Task], shaping: Any, steps: int) -> Callable[..., Any]:
    def fit(key: jax.Array, tokens: jax.Array, arguments: dict[str, Any]) -> dict[str, Any]:
        model = rebuilt(family, shaping, arguments).model
        guide = AutoMultivariateNormal(model, init_loc_fn=init_to_uniform(radius=0.0), init_scale=SCALE)
        fitted = optimised(model, guide, steps, key, tokens)
        return {"location": fitted["auto_loc"], "root": fitted["auto_scale_tril"]}

    return jax.jit(jax.vmap(fit, in_axes=(0, 0, None)))


def _theta(task: Task, tokens: Int[np.ndarray, " T"]) -> Callable[[Float[np.ndarray, "S d"]], Float[np.ndarray, "S k"]]:
    """From unconstrained coordinates to the numbers of θ in a row."""
    with handlers.block(), handlers.trace() as sites, handlers.seed(rng_seed=0):
        task.model(tokens)
    latents = {name: s for name, s in sites.items() if s["type"] == "sample" and not s["is_observed"]}
    transforms = {name: biject_to(site["fn"].support) for name, site in latents.items()}
    unconstrained = {name: jnp.zeros(t.inverse_shape(latents[name]["value"].shape)) for name, t in transforms.items()}
    unravel = ravel_pytree(unconstrained)[1]

    def theta(u: jax.Array) -> jax.Array:
        values = {name: transforms[name](value) for name, value in unravel(u).items()}
        with handlers.block(), handlers.trace() as found, handlers.substitute(data=values):
            task.model(tokens)
        return found[task.theta]["value"].ravel()

    compiled = jax.jit(jax.vmap(theta))
    return lambda u: np.asarray(compiled(u))
