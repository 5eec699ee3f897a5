r"""The posterior in softmax coordinates: λ = softmax(V u), u in R^{m-1}, the columns of V an orthonormal basis of 1^⊥.

With the Jacobian, log p(u | y) = ℓ(λ) + α Σ_g log λ_g + const: as a function of λ that is concave for every α > 0, so
there is one mode, inside the simplex. By homogeneity λ·∇ = n + mα and the gradient in λ is constant over g there, hence
the Hessian in u is Jᵀ H J with H = -Σ_t x_t x_tᵀ / ⟨λ, x_t⟩² - diag(α/λ²) and J = (diag λ - λ λᵀ) V.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import helmert
from scipy.special import gammaln, log_softmax

MAX_ITERATIONS = 200
TOLERANCE = 1e-10  # of the Newton decrement, in nats


class Mode(NamedTuple):
    """The mode of the posterior in softmax coordinates.

    Attributes:
        u: (B, m-1).
        precision: (B, m-1, m-1) minus the Hessian of the log density there.
        log_density: (B,) log p(y_{m+1..T} | λ) p(u) there, p(u) the prior density in u.
    """

    u: Float[np.ndarray, "B d"]
    precision: Float[np.ndarray, "B d d"]
    log_density: Float[np.ndarray, " B"]


@functools.cache
def basis(m: int) -> Float[np.ndarray, "m d"]:
    """V, the Helmert contrasts."""
    return np.ascontiguousarray(helmert(m).T)


def log_dirichlet_normaliser(a: Float[np.ndarray, " m"]) -> float:
    """Log of c in p(u) = c Π_g λ_g^{a_g} for λ ~ Dirichlet(a); √m is the volume that V's orthonormal columns bring."""
    return float(gammaln(a.sum()) - gammaln(a).sum() + 0.5 * np.log(len(a)))


def draw_log_gamma(a: Float[np.ndarray, "..."], size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Logarithms of Gamma(a) variables, which for small a are often below what float64 holds.

    Gamma(a) is distributed as Gamma(a + 1) U^(1/a).
    """
    log_gamma = np.log(rng.standard_gamma(a + 1, size))
    log_gamma -= rng.standard_exponential(size) / a
    return log_gamma


def find_mode(x: Float[np.ndarray, "B n m"], concentration: float | Float[np.ndarray, " m"]) -> Mode:
    """The modes of some sequences, by Newton's method with the metric JᵀHJ (never indefinite) and halved steps.

    The prior is Dirichlet(``concentration``), one number for all lags or one for each.

    Raises:
        FloatingPointError: a sequence does not converge.
    """
    batch, _, m = x.shape
    v = basis(m)
    u = np.zeros((batch, m - 1))
    for _ in range(MAX_ITERATIONS):
        value, weights = _log_density(u, x, concentration)
        ratio = x / np.einsum("btg,bg->bt", x, weights)[..., None]
        jacobian = weights[..., None] * (v - np.einsum("bg,gd->bd", weights, v)[:, None])  # (B, m, m-1)
        hessian = np.einsum("btg,bth->bgh", ratio, ratio)
        hessian[:, range(m), range(m)] += concentration / weights**2
        precision = np.einsum("bgd,bgh,bhe->bde", jacobian, hessian, jacobian)
        gradient = np.einsum("bgd,bg->bd", jacobian, ratio.sum(axis=1) + concentration / weights)
        step = np.linalg.solve(precision, gradient[..., None])[..., 0]
        decrement = (gradient * step).sum(axis=-1)
        if (decrement < TOLERANCE).all():
            return Mode(u, precision, value + log_dirichlet_normaliser(np.broadcast_to(concentration, m)))
        size = np.minimum(1.0, 3.0 / np.abs(step).max(axis=-1, keepdims=True, initial=1e-300))
        for _ in range(40):
            better = _log_density(u + size * step, x, concentration)[0] >= value - 1e-12 * np.abs(value)
            if better.all():
                break
            size = np.where(better[:, None], size, size / 2)
        u = np.where((decrement < TOLERANCE)[:, None], u, u + size * step)
    raise FloatingPointError(f"the posterior mode of sequence {int(np.argmax(decrement)) + 1} was not found.")


def _log_density(
    u: Float[np.ndarray, "B d"], x: Float[np.ndarray, "B n m"], concentration: float | Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, "B m"]]:
    """Log p(y | λ) + Σ α_g log λ_g, and λ."""
    log_weights = log_softmax(u @ basis(x.shape[2]).T, axis=-1)
    weights = np.exp(log_weights)
    likelihood = np.log(np.einsum("btg,bg->bt", x, weights)).sum(axis=-1)
    return likelihood + (concentration * log_weights).sum(axis=-1), weights
