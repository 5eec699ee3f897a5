"""Look inside a transformer: hold its parts against the construction that it may have found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.special import softmax

from mdbench.algorithms.reweighting import STAGES, responsibilities
from mdbench.core import metrics
from mdbench.core.errors import Unsupported
from mdbench.core.files import json_ready
from mdbench.core.statistics import MeanInterval, mean_interval
from mdbench.evaluation.agreement import pairwise, rows_of
from mdbench.evaluation.gold import gold_predictive
from mdbench.evaluation.running import predict
from mdbench.mechanism.adaptation import Leak, StepAdaptation, step_adaptation
from mdbench.mechanism.identification import OTHER_PRIORS, with_prior
from mdbench.mechanism.tracing import BATCH, Model, constructed, mean_leak, models_of
from mdbench.predictors.predictor import Given
from mdbench.predictors.transformer import DisentangledTransformer
from mdbench.tasks import MTD, Stream, Task, as_task, sample
from mdbench.tasks.mixture import tokens_before

A_STEP = 0.5  # of R²: below, the last layer takes no step that is linear in mean Γ
LEAST_ATTENTION = 1e-30  # below it float32 holds nothing; a logarithm needs something


@dataclass(frozen=True)
class Layer:
    """One layer of a disentangled transformer beside the same layer of the construction.

    Attributes:
        overlap: Σ_j min(A_ij, A'_ij), the share of attention that both have in common: its mean over the queries of
            informative positions and over sequences.
        overlap_last: the same for the query T alone, the only one that matters in the layers after the first.
        offset_scores: h_T · R_A[o] for every offset o, averaged over sequences, the largest 0; None of a module of
            somebody's own.
        offset_scores_construction: those of the construction.
        mean_map: A averaged over sequences.
        mean_map_construction: of the construction.
        mean_difference: |A - A'| averaged over sequences.
    """

    overlap: float
    overlap_last: float
    offset_scores: Float[np.ndarray, " T"] | None = field(repr=False)
    offset_scores_construction: Float[np.ndarray, " T"] = field(repr=False)
    mean_map: Float[np.ndarray, "T T"] = field(repr=False)
    mean_map_construction: Float[np.ndarray, "T T"] = field(repr=False)
    mean_difference: Float[np.ndarray, "T T"] = field(repr=False)


@dataclass(frozen=True)
class TransitionMatrix:
    """What layer 1's W_A says of π. In the construction W_A[b, a] = log π(a, b), b the query's state and a the key's.

    Attributes:
        learned: softmax of the rows of W_A over keys a; a softmax over keys leaves a constant for each b open, so this
            is all that attention can see of it.
        expected: π(a, b)/Σ_a π(a, b), the same of the construction.
        kl_over_keys: KL(expected ‖ learned), mean over the q rows b.
        learned_rows: softmax of W_A over the query's states b, for each a: an estimate of π's rows if the constants
            that attention leaves open happen to be equal.
        kl_rows: KL(π(a, ·) ‖ learned_rows[a]), mean over the q rows a.
        scale: slope of W_A against log π, both centred over keys: 1 in the construction.
    """

    learned: Float[np.ndarray, "q q"]
    expected: Float[np.ndarray, "q q"]
    kl_over_keys: float
    learned_rows: Float[np.ndarray, "q q"]
    kl_rows: float
    scale: float


@dataclass(frozen=True)
class StepSize:
    """η as the last layer shows it: the slope of its log attention to T+1-g against mean Γ(g), over m (T - m).

    ``r_squared`` is the share of the log attention's variance (over lags, within sequences) that the line explains, and
    ``on_lags`` the share of attention that falls on the last m positions at all.
    """

    eta: float
    eta_se: float
    r_squared: float
    on_lags: float

    @property
    def is_a_step(self) -> bool:
        """Whether the line explains most of the attention; otherwise η means nothing."""
        return self.r_squared >= A_STEP


@dataclass(frozen=True)
class Probe:
    """Held-out R² of a linear map from a residual stream to Γ_t at each position t, and to mean Γ at position T."""

    after_layer: int
    gamma: float
    mean_gamma: float


@dataclass(frozen=True)
class Inside:
    """One training seed of a transformer; distances in nats.

    Attributes:
        row: the predictor's name, with ``:seed=k`` where it has several training seeds.
        to_construction: KL(p̂ ‖ construction).
        to_bayes: KL(p_B ‖ p̂), its excess KL.
        elsewhere: KL(p̂ ‖ construction) on sequences of other priors on λ, where what agrees here may part.
        layers: of one whose layers have a construction beside them.
        transition: of a disentangled transformer.
        step_size: as the last layer shows it, likewise; None at order 1, where there is nothing to weigh.
        adaptation: whether its step adapts to the sequence, by its predictions; None where no steps can be told.
        leak: what layer 1 gives away and layer 2 gives back, of a disentangled transformer of three layers or more.
        probes: of a standard transformer.
        maps: the attention maps of the first sequence: of each layer (T, T), or (heads, T, T).
    """

    row: str
    to_construction: MeanInterval
    to_bayes: MeanInterval
    elsewhere: dict[str, MeanInterval]
    layers: list[Layer]
    transition: TransitionMatrix | None
    step_size: StepSize | None
    adaptation: StepAdaptation | None
    leak: Leak | None
    probes: list[Probe]
    maps: list[Float[np.ndarray, "..."]] = field(repr=False)


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` returns.

    Attributes:
        predictor: its name.
        task: name of the task.
        length: T.
        n_sequences: that everything is averaged over.
        seed: of these.
        model: ``disentangled``, ``standard``, or the class of a module of somebody's own.
        depth: its layers.
        construction: what it is held against: the construction of as many layers, else ``constructed_l3``.
        construction_to_bayes: KL(p_B ‖ construction).
        runs: one for each training seed.
        classes: of training seeds that compute the same function (``mdbench agree``); who stands alone is not in it.
        maps_construction: the construction's for the first sequence, where layers are compared.
    """

    predictor: str
    task: str
    length: int
    n_sequences: int
    seed: int
    model: str
    depth: int
    construction: str
    construction_to_bayes: MeanInterval
    runs: list[Inside]
    classes: list[list[str]]
    maps_construction: list[Float[np.ndarray, "T T"]] | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the maps."""
        plain = asdict(self)
        plain.pop("maps_construction")
        for run in plain["runs"]:
            run.pop("maps")
            for layer in run["layers"]:
                for name in ("mean_map", "mean_map_construction", "mean_difference"):
                    layer.pop(name)
        return json_ready(plain)


def inspect(
    predictor: Given,
    *,
    task: str | Path | Task = "mtd-q5-m3",
    length: int = 32,
    n_sequences: int = 512,
    seed: int = 0,
    device: str = "cpu",
) -> Inspection:
    """Look inside a transformer, each of its training seeds, averaged over sequences.

    Args:
        predictor: the name of a transformer, or an object with ``transformer(length)``, which gives the torch module;
            one of somebody's own may name its parts, as for :func:`mdbench.patch`.
        task: the task.
        length: context length.
        n_sequences: to average over; a standard transformer's probes are judged on as many others.
        seed: of the sequences.
        device: torch device.

    Raises:
        InputError: bad arguments, or the predictor is no transformer or cannot serve the length.
    """
    loaded = as_task(task)
    if not isinstance(loaded, MTD):
        raise Unsupported(
            f"inspect holds a model against constructions of {MTD.kind}; '{loaded.name}' is {loaded.kind}."
        )
    name, models = models_of(predictor, loaded, length, device)
    contexts = sample(loaded, length, n_sequences, seed).contexts
    others = {
        prior: sample(with_prior(loaded, alpha), length, n_sequences, seed).contexts
        for prior, alpha in OTHER_PRIORS.items()
    }
    compared = all(_has_construction(model, contexts) for model in models)
    other = constructed(loaded, models[0].depth if compared else 3, length, device)
    bayes = metrics.normalise(gold_predictive(loaded, contexts, [length]).probs[:, 0])
    theirs = {prior: predict(other.name, other.predictor, loaded, c) for prior, c in {"": contexts, **others}.items()}
    gamma = responsibilities(loaded.likelihoods(contexts))
    runs, predicted = [], {}
    for row, model in rows_of(name, models).items():
        predicted[row] = probs = predict(name, model.predictor, loaded, contexts)
        elsewhere = {
            prior: mean_interval(metrics.kl(predict(name, model.predictor, loaded, c), theirs[prior]))
            for prior, c in others.items()
        }
        ours = model.module if isinstance(model.module, DisentangledTransformer) else None
        runs.append(
            Inside(
                row=row,
                to_construction=mean_interval(metrics.kl(probs, theirs[""])),
                to_bayes=mean_interval(metrics.kl(bayes, probs)),
                elsewhere=elsewhere,
                layers=_layers(loaded, model, other, contexts) if compared else [],
                transition=transition_matrix(loaded, ours) if ours else None,
                step_size=_step_size(loaded, model, contexts, gamma) if ours and loaded.order > 1 else None,
                adaptation=step_adaptation(loaded, contexts, probs),
                leak=mean_leak(loaded, model, contexts),
                probes=_probes(loaded, model, contexts, gamma, seed) if model.kind == "standard" else [],
                maps=[a[0] for a in model.trace(contexts[:1])[1]],
            )
        )
    classes = pairwise(predicted, loaded, length, "").classes if len(runs) > 1 else []
    return Inspection(
        predictor=name,
        task=loaded.name,
        length=length,
        n_sequences=n_sequences,
        seed=seed,
        model=models[0].kind,
        depth=models[0].depth,
        construction=other.name,
        construction_to_bayes=mean_interval(metrics.kl(bayes, theirs[""])),
        runs=runs,
        classes=classes,
        maps_construction=[a[0] for a in other.trace(contexts[:1])[1]] if compared else None,
    )


def _has_construction(model: Model, contexts: Int[np.ndarray, "N T"]) -> bool:
    """Whether there is a construction with such layers: as many, each of one head."""
    if model.kind == "standard" or model.depth not in STAGES:
        return False
    maps = model.trace(contexts[:1])[1]
    return len(maps) == model.depth and all(a.shape == (1, *contexts.shape[1:] * 2) for a in maps)


def _layers(task: MTD, model: Model, other: Model, contexts: Int[np.ndarray, "N T"]) -> list[Layer]:
    n, m = len(contexts), task.order
    sums: list[dict[str, Any]] = [dict.fromkeys(Layer.__dataclass_fields__, 0.0) for _ in range(model.depth)]
    for start in range(0, n, BATCH):
        batch = contexts[start : start + BATCH]
        ours, theirs = model.trace(batch), other.trace(batch)
        for k, total in enumerate(sums):
            a, b = ours[1][k], theirs[1][k]
            common = np.minimum(a, b).sum(axis=-1)
            total["overlap"] += common[:, m:].mean(axis=-1).sum()
            total["overlap_last"] += common[:, -1].sum()
            total["mean_map"] += a.sum(axis=0)
            total["mean_map_construction"] += b.sum(axis=0)
            total["mean_difference"] += np.abs(a - b).sum(axis=0)
            for what, (states, _), of in (("", ours, model), ("_construction", theirs, other)):
                if isinstance(of.module, DisentangledTransformer):
                    table = of.module.layers[k].attend_offset.detach().cpu().double().numpy()
                    total[f"offset_scores{what}"] += (states[k][:, -1] @ table.T).sum(axis=0)
    layers = []
    for total in sums:
        means = {name: value / n for name, value in total.items()}
        for name in ("offset_scores", "offset_scores_construction"):
            means[name] = None if np.ndim(means[name]) == 0 else means[name] - means[name].max()
        layers.append(Layer(**means))
    return layers


def transition_matrix(task: MTD, model: DisentangledTransformer) -> TransitionMatrix:
    """What its first layer says of π."""
    attend = model.layers[0].attend.detach().cpu().double().numpy()  # rows: the query's state b; columns: the key's a
    with np.errstate(divide="ignore"):
        log_pi = np.log(task.transition.T)
    learned, expected = softmax(attend, axis=1), softmax(log_pi, axis=1)
    rows = softmax(attend, axis=0).T
    finite = np.isfinite(log_pi)
    centred = [
        np.where(finite, a - np.nanmean(np.where(finite, a, np.nan), axis=1, keepdims=True), 0.0)
        for a in (attend, log_pi)
    ]
    return TransitionMatrix(
        learned=learned,
        expected=expected,
        kl_over_keys=float(metrics.kl(expected, learned).mean()),
        learned_rows=rows,
        kl_rows=float(metrics.kl(task.transition, rows).mean()),
        scale=float((centred[0] * centred[1]).sum() / (centred[1] ** 2).sum()),
    )


def _step_size(
    task: MTD, model: Model, contexts: Int[np.ndarray, "N T"], gamma: Float[np.ndarray, "N n m"]
) -> StepSize:
    m, length = task.order, contexts.shape[1]
    last = np.concatenate([maps[-1][:, -1] for maps in model.maps(contexts)])
    on_lags = tokens_before(last, m, length)  # attention to T+1-g for g = 1..m
    log_attention = np.log(np.maximum(on_lags, LEAST_ATTENTION))
    y = (log_attention - log_attention.mean(axis=1, keepdims=True)).ravel()
    mean_gamma = gamma.mean(axis=1)
    x = (mean_gamma - mean_gamma.mean(axis=1, keepdims=True)).ravel()
    line = stats.linregress(x, y)
    scale = m * (length - m)
    return StepSize(
        float(line.slope / scale), float(line.stderr / scale), float(line.rvalue**2), float(on_lags.sum(axis=1).mean())
    )


def _probes(
    task: MTD,
    model: Model,
    contexts: Int[np.ndarray, "N T"],
    gamma: Float[np.ndarray, "N n m"],
    seed: int,
) -> list[Probe]:
    """Fitted by least squares on calibration sequences, judged on ``contexts``."""
    n, length = contexts.shape
    to_fit = sample(task, length, n, seed, stream=Stream.CALIBRATION).contexts
    gamma_fit = responsibilities(task.likelihoods(to_fit))
    fit_states, judge_states = (model.trace(c)[0] for c in (to_fit, contexts))
    m = task.order
    probes = []
    for layer, (fit, judge) in enumerate(zip(fit_states, judge_states, strict=True)):
        width = fit.shape[-1]
        probes.append(
            Probe(
                layer,
                _held_out(
                    fit[:, m:].reshape(-1, width),
                    gamma_fit.reshape(-1, m),
                    judge[:, m:].reshape(-1, width),
                    gamma.reshape(-1, m),
                ),
                _held_out(fit[:, -1], gamma_fit.mean(axis=1), judge[:, -1], gamma.mean(axis=1)),
            )
        )
    return probes


def _held_out(x_fit: np.ndarray, y_fit: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """R² on (x, y) of the affine map fitted on the others; all columns of y together."""
    with_one = [np.column_stack([a, np.ones(len(a))]) for a in (x_fit, x)]
    coefficients = np.linalg.lstsq(with_one[0], y_fit, rcond=None)[0]
    residual = y - with_one[1] @ coefficients
    return float(1 - (residual**2).sum() / ((y - y.mean(axis=0)) ** 2).sum())
