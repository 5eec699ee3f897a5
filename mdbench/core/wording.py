"""How names and numbers read, wherever people read them."""

from __future__ import annotations

SMALLEST_P = 1e-4  # that is printed: smaller ones say more than the approximations behind them hold

_TITLES = {"kl": "KL", "excess_kl": "excess KL", "cross_entropy": "cross-entropy", "nll": "NLL"}


def title(score: str) -> str:
    """The name of a score."""
    return _TITLES.get(score, score.replace("_", " "))


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval, ``low .. high``."""
    return f"{interval[0]:.3g} .. {interval[1]:.3g}" if interval else "unknown"


def p_text(p: float) -> str:
    """A p-value, which is never zero."""
    return f"{p:.2g}" if p >= SMALLEST_P else "< 0.0001"
