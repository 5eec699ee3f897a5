"""Run claims: each an experiment, with a verdict by its rule."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mdbench.claims.catalogue import claims_of
from mdbench.claims.claim import Claim
from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import MARGIN, Laboratory
from mdbench.core.cluster import CellFailure, Cluster, ahead, open_cluster
from mdbench.core.device import check_device
from mdbench.core.errors import InputError
from mdbench.core.files import json_ready
from mdbench.core.progress import Advance, Progress, no_progress
from mdbench.core.store import Cache

DIGITS = 8  # of what is written down


@dataclass(frozen=True)
class Reproduced:
    """A claim with what its experiment found."""

    name: str
    claim: Claim
    finding: Finding
    margin: float
    device: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the numbers of the figure."""
        found = self.finding
        return json_ready(
            {
                "claim": self.name,
                "statement": self.claim.statement,
                "source": self.claim.source,
                "rule": rule_of(self.claim, self.margin),
                "verdict": found.verdict,
                "estimate": _rounded(found.estimate),
                "interval": found.interval and [_rounded(end) for end in found.interval],
                "unit": found.unit,
                "seeds": found.seeds,
                "margin": self.margin,
                "says": found.says,
                "device": self.device,
                "seconds": round(self.seconds, 1),
            }
        )


def reproduce(
    claims: Sequence[str] = (),
    *,
    fast: bool = False,
    margin: float = MARGIN,
    device: str = "cpu",
    cache: Cache = "all",
    cluster: str | Cluster | None = None,
    progress: Progress = no_progress,
) -> Iterator[Reproduced]:
    """Run the experiments of claims, all if none are named, one after the other, or on a cluster side by side.

    Args:
        claims: names (``mdbench reproduce --list``).
        fast: on one task, with fewer sequences: minutes.
        margin: two predictors are equal if the interval of the ratio of their excess KL lies in 1/(1 + margin) ..
            1 + margin.
        device: torch device.
        cache: what the cache folder may answer.
        cluster: where the experiments run, as :func:`mdbench.evaluate` has it.
        progress: called to show progress.

    Raises:
        InputError: there is no such claim, or the margin is negative; after the others: one failed on the cluster.
    """
    wanted = check(claims, margin, device)
    setting = (fast, margin, device, cache)
    with open_cluster(cluster) as workers:
        if workers is None:
            lab = Laboratory(*setting, progress)
            for name, claim in wanted.items():
                began = time.perf_counter()
                yield Reproduced(name, claim, claim.run(lab), margin, device, time.perf_counter() - began)
            return
        advance = progress("claims", len(wanted))

        def begin(name: str) -> Callable[[], tuple[Finding, float]]:
            return workers.begin(run_here, name, setting, advance=advance)

        failed = []
        for name, found in ahead(wanted, begin, len(wanted), CellFailure):
            if isinstance(found, CellFailure):
                failed.append(f"{name}: {found}.")
            else:
                yield Reproduced(name, wanted[name], found[0], margin, device, found[1])
        if failed:
            raise InputError(" ".join(failed))


def run_here(name: str, setting: tuple[bool, float, str, Cache], _advance: Advance) -> tuple[Finding, float]:
    """On a worker: what the experiment of a claim finds, and its seconds."""
    began = time.perf_counter()
    return claims_of([name])[name].run(_laboratory(*setting)), time.perf_counter() - began


_laboratory = functools.lru_cache(maxsize=1)(Laboratory)  # of a worker: what one claim judged, another need not


def check(claims: Sequence[str], margin: float, device: str) -> dict[str, Claim]:
    """The claims of these names.

    Raises:
        InputError: there is no such claim or device, or the margin is negative.
    """
    check_device(device)
    if not 0 <= margin < float("inf"):
        raise InputError(f"margin must be 0 or more, as 0.25 for ratios from 0.8 to 1.25, not {margin}.")
    return claims_of(claims)


def rule_of(claim: Claim, margin: float = MARGIN) -> str:
    """Its rule with the ends of the margin in it."""
    return claim.rule.format(low=f"{1 / (1 + margin):.3g}", high=f"{1 + margin:.3g}")


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")
