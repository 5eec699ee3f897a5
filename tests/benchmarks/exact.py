"""How fast the two exact routes are: against NUTS, plain jax and matrix products, and how their cost grows.

    python tests/benchmarks/bench.py --only nuts jax products growth
    python tests/benchmarks/exact.py                                    the table of costs in docs/exact_gold.md

All opponents are jitted, warm, vectorised over sequences, in float64 and on all cores.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from measuring import Row, growth, in_turn, ratio
from tables import Table

from mdbench.baselines import Exact, Urn, chains, nuts
from mdbench.baselines.baseline import sequence_seeds
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError
from mdbench.tasks import MTD, load_task, sample

quadrature: Any = sys.modules["mdbench.baselines.exact"]

TASK, LENGTH = "mtd-q5-m3", 128
N_EXACT, N_PLAIN, N_URN, N_NUTS = 1024, 256, 128, 256  # sequences, for times of the same order
NODES = 34  # a stick: no sequence here needs more for means that are right to 1e-9
SAME = 1e-9  # how far opponents may differ in the mean
SIDE = 2048  # of the square matrices whose product is the measure


def against_nuts() -> Iterator[Row]:
    """Seconds a sequence and prefix: both routes at all prefixes of T = 128, NUTS at one, 1,000 draws after 300."""
    task, contexts = _case(N_EXACT)
    few, middle = contexts[:N_NUTS], (LENGTH + task.order) // 2
    lengths = range(task.order + 1, LENGTH + 1)
    exact, urn, at_end, at_middle = in_turn(
        lambda: Exact().posterior(task, contexts, lengths),
        lambda: Urn().posterior(task, contexts[:N_URN], lengths),
        lambda: _nuts_draws(task, few),
        lambda: _nuts_draws(task, few[:, :middle]),
    )
    exact, urn, at_end, at_middle = exact / N_EXACT, urn / N_URN, at_end / N_NUTS, at_middle / N_NUTS
    n = len(lengths)
    yield ratio("NUTS at T = 128 / exact, a prefix", at_end, exact / n, at_least=5000)
    yield ratio("NUTS at T = 65 / exact, a prefix", at_middle, exact / n)
    yield ratio("NUTS at T = 128 / exact at all prefixes", at_end, exact)
    yield ratio("NUTS at T = 128 / urn, a prefix", at_end, urn / n)
    yield ratio("NUTS at T = 128 / urn at all prefixes", at_end, urn)
    gold = Exact().posterior(task, few)
    assert gold.error is not None
    error = np.abs(_nuts_draws(task, few).mean(axis=(1, 2)) - gold.mean[:, -1]).max(axis=1)
    by_group = np.median(error.reshape(8, -1), axis=1)
    yield ratio("error of NUTS's mean / bound of exact's", by_group, gold.error.max())


def _nuts_draws(task: MTD, contexts: np.ndarray) -> Float[np.ndarray, "B C D m"]:
    """One chain: the fewest draws that count as 1,000. Gates (R-hat and the like) are left out of its time."""
    run = nuts._compiled(300, 1000, 3, 0.8)
    keys, x = chains.chain_keys(sequence_seeds(contexts, 0), 1), task.likelihoods(contexts)
    return _in_chunks(
        lambda c: chains.run_padded(run, keys[c], x[c], 1.0, task.concentration)["weights"], len(x), chains.CHUNK
    )


def against_plain_jax() -> Iterator[Row]:
    """Posterior means at all prefixes, as anyone would write them: by logsumexp over nodes, and over a grid of counts.

    What is timed is checked to be the same.
    """
    task, contexts = _case(N_PLAIN)
    x, few = task.likelihoods(contexts), contexts[:N_URN]
    by_logsumexp, by_grid = _logsumexp(task), _counts(task)
    width = quadrature.CHUNK
    factors, _ = quadrature._scaled_factors(x, quadrature._as_learned(x, task.concentration))
    sticks, counts = quadrature._sticks(NODES, task.order, task.concentration)
    (whole,), everywhere = quadrature._slices(counts), np.ones(x.shape[1], dtype=bool)
    lengths = range(task.order + 1, LENGTH + 1)

    def kernel() -> np.ndarray:
        """The sums of the quadrature at the same nodes, without the ladder around them."""
        given = sticks, counts, whole.start, whole.stop, everywhere
        return _in_chunks(lambda c: np.concatenate(quadrature._integrate(factors[c], *given), axis=-1), N_PLAIN, width)

    def plain() -> np.ndarray:
        return _in_chunks(lambda c: by_logsumexp(x[c]), N_PLAIN, width)

    def plain_urn() -> np.ndarray:
        return _in_chunks(lambda c: by_grid(x[:N_URN][c]), N_URN, 4)

    sums = kernel()[..., : task.order]
    exact = Exact().posterior(task, contexts, lengths).mean
    for name, mean, gold in (
        ("the kernel", sums / sums.sum(axis=-1, keepdims=True), exact),
        ("logsumexp", plain()[..., : task.order], exact),
        ("a grid of counts", plain_urn(), exact[:N_URN]),
    ):
        apart = np.abs(mean - gold).max()
        assert apart < SAME, f"{name} errs by {apart:.0e}"
    of_kernel, of_exact, of_plain = in_turn(kernel, lambda: Exact().posterior(task, contexts, lengths), plain)
    of_urn, of_grid = in_turn(lambda: Urn().posterior(task, few, lengths), plain_urn)
    yield ratio(f"logsumexp / exact's sums, {NODES} nodes a stick", of_plain, of_kernel)
    yield ratio(f"logsumexp, {NODES} nodes a stick / all of exact", of_plain, of_exact)
    yield ratio("a grid of counts / urn", of_grid, of_urn)


def _logsumexp(task: MTD) -> Callable[..., Any]:
    """From x (chunk, n, m) to E[λ_g] and E[λ_g²], (chunk, n, 2m), with one exp a node: the stronger opponent."""
    m = task.order
    sticks, _ = quadrature._sticks(NODES, m, task.concentration)
    weights, mass = _grid(sticks[:, :3, :NODES])
    moments = jnp.concatenate([weights, weights**2], axis=1)

    @jax.jit
    def means(x: Float[Array, "chunk n m"]) -> Float[Array, "chunk n moments"]:
        terms = jnp.cumsum(jnp.log(x @ weights.T), axis=1) + jnp.log(mass)  # (chunk, n, nodes)
        sums = jnp.exp(terms - terms.max(axis=2, keepdims=True)) @ moments
        return sums / sums[..., :m].sum(axis=-1, keepdims=True)

    return means


def _grid(rules: Float[np.ndarray, "sticks 3 N"]) -> tuple[Float[Array, "nodes m"], Float[Array, " nodes"]]:
    """λ at the nodes of the grid of all sticks, and their prior mass; a rule is node, 1 - node, weight."""
    index = np.indices([rules.shape[2]] * len(rules)).reshape(len(rules), -1)
    left, mass, weights = np.ones(index.shape[1]), np.ones(index.shape[1]), []
    for (node, rest, weight), k in zip(rules, index, strict=True):
        weights.append(left * node[k])
        left, mass = left * rest[k], mass * weight[k]
    return jnp.asarray(np.stack([*weights, left], axis=1)), jnp.asarray(mass)


def _counts(task: MTD) -> Callable[..., Any]:
    """Means by the urn's recursion over a grid (n + 1)² of counts, for order 3."""
    alpha, m = task.concentration, task.order
    assert m == 3, "a grid of two counts"

    def means(x: Float[Array, "n m"]) -> Float[Array, "n m"]:
        n = len(x)
        a, b = jnp.meshgrid(jnp.arange(n + 1.0), jnp.arange(n + 1.0), indexing="ij")

        def step(w: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            s, likelihood = at
            # States that cannot be have weight 0 whatever they are multiplied by.
            first, second, third = (w * (alpha + c) * likelihood[g] for g, c in enumerate((a, b, s - a - b)))
            w = third + jnp.pad(first, ((1, 0), (0, 0)))[:-1] + jnp.pad(second, ((0, 0), (1, 0)))[:, :-1]
            w = w / w.sum()
            counts = jnp.stack([(w * a).sum(), (w * b).sum(), (w * (s + 1 - a - b)).sum()])
            return w, (alpha + counts) / (m * alpha + s + 1)

        start = jnp.zeros((n + 1, n + 1)).at[0, 0].set(1.0)
        return jax.lax.scan(step, start, (jnp.arange(float(n)), x))[1]

    return jax.jit(jax.vmap(means))


def against_matrix_products() -> Iterator[Row]:
    """Floating-point operations a second, as a share of what products of float64 matrices do on the same cores.

    Counted are the operations that the algorithms need; padding does not count.
    """
    task, contexts = _case(N_EXACT)
    n, m = LENGTH - task.order, task.order
    lengths = range(m + 1, LENGTH + 1)
    operations: list[int] = []  # of the slices of the grid that the ladder goes over

    def counted(factors: np.ndarray, sticks: Any, counts: Any, first: int, last: int, asked: np.ndarray) -> Any:
        nodes = (last - first) * int(counts[-2] * counts[-1])
        # A factor, the running product, and two sums; two more where squares are asked for.
        operations.append(len(factors) * nodes * (7 * n + 4 * int(asked.sum())))
        return integrate(factors, sticks, counts, first, last, asked)

    integrate, quadrature._integrate = quadrature._integrate, counted
    Exact().posterior(task, contexts, lengths)
    quadrature._integrate = integrate

    # Each state of each step: two products and their factors, and a product for each further lag; 13 for its moments.
    states = comb(n + m, m) - 1
    urn_operations = N_URN * states * (5 + 2 * (m - 2) + 13)
    rng = np.random.default_rng(0)
    a, b = rng.random((2, SIDE, SIDE))
    jax_a, jax_b, product = jnp.asarray(a), jnp.asarray(b), jax.jit(jnp.dot)
    exact, urn, numpys, jaxs = in_turn(
        lambda: Exact().posterior(task, contexts, lengths),
        lambda: Urn().posterior(task, contexts[:N_URN], lengths),
        lambda: a @ b,
        lambda: product(jax_a, jax_b).block_until_ready(),
    )
    best = 2 * SIDE**3 / np.minimum(numpys, jaxs)
    yield ratio("exact's operations a second / a matrix product's", sum(operations) / exact, best)
    yield ratio("urn's operations a second / a matrix product's", urn_operations / urn, best)


def how_cost_grows() -> Iterator[Row]:
    """Time of a sequence against T, m, q and the number of sequences, for random matrices, at all prefixes."""
    for name, method, n, n_of_order in (
        ("exact", Exact(), 128, {3: 128, 4: 64, 5: 16, 6: 2}),  # both cores at every order
        ("urn", Urn(), 32, {3: 16, 4: 16, 5: 4, 6: 1}),  # one, which does 16 sequences at a time
    ):

        def work(
            m: int = 3, q: int = 5, length: int = 64, n: int = n, method: Any = method
        ) -> tuple[Callable[[], Any], int]:
            task, contexts = _random_case(m, length, n, q=q)
            return lambda: method.posterior(task, contexts, range(m + 1, length + 1)), n

        yield growth(f"{name} against T, 64 to 512, m = 3", {t: work(length=t) for t in (64, 128, 256, 512)})
        by_order = {m: work(m=m, length=32, n=number) for m, number in n_of_order.items()}
        yield growth(f"{name}, a lag more, m = 3 to 6, T = 32", by_order, "factor")
        yield growth(f"{name} against q, 5 to 40, m = 3, T = 64", {q: work(q=q) for q in (5, 10, 20, 40)})
        by_number = {k * n: (work(n=k * n)[0], 1) for k in (1, 2, 4, 8)}
        yield growth(f"{name} against n, {n:,} to {8 * n:,} sequences, all of them", by_number)


def _case(n: int) -> tuple[MTD, np.ndarray]:
    task = load_task(TASK)
    assert isinstance(task, MTD)
    return task, sample(task, LENGTH, n, 0).contexts


def _in_chunks(work: Callable[[slice], Any], n: int, width: int) -> np.ndarray:
    """``work`` on so many sequences at a time, on all cores."""
    with ThreadPoolExecutor(n_cores()) as pool:
        chunks = (slice(i, i + width) for i in range(0, n, width))
        return np.concatenate(list(pool.map(lambda c: np.asarray(work(c)), chunks)))


def costs() -> None:
    """Time of a sequence by order, length and batch, and peak memory so far."""
    headings = ["m", "T", "B", "s a sequence", "nodes x transitions, last rung", "peak GiB"]
    table = Table("costs of exact", headings)
    for m, length, batch, kind in (
        (2, 128, 1024, "drawn"), (3, 32, 1024, "drawn"), (3, 128, 1, "drawn"), (3, 128, 64, "drawn"),
        (3, 128, 1024, "drawn"), (3, 256, 1024, "drawn"), (4, 128, 1024, "drawn"), (4, 256, 64, "drawn"),
        (5, 64, 8, "drawn"), (5, 128, 8, "drawn"), (5, 128, 1, "one lag"), (6, 64, 4, "drawn"), (6, 128, 4, "drawn"),
        (6, 128, 1, "one lag"),
    ):  # fmt: skip
        task, contexts = _random_case(m, length, batch, kind)
        Exact().posterior(task, contexts[:1])
        for n_nodes in quadrature._ladder(length - m):
            quadrature._sticks(n_nodes, m, task.concentration)  # the rules are kept
        started = time.perf_counter()
        Exact().posterior(task, contexts)
        seconds = (time.perf_counter() - started) / batch
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        top = (length - m) * quadrature._ladder(length - m)[-1] ** (m - 1)
        name = f"{length} ({kind})" if kind != "drawn" else str(length)
        table.add(str(m), name, str(batch), f"{seconds:.3g}", f"{top:.1e}", f"{memory:.2f}")
    table.put()
    for m, length in ((6, 192), (7, 128), (8, 64)):
        task, contexts = _random_case(m, length, 1)
        try:
            Exact().posterior(task, contexts)
        except InputError as refusal:
            print(f"\n{refusal}")


def _random_case(m: int, length: int, batch: int, kind: str = "drawn", q: int = 5) -> tuple[MTD, np.ndarray]:
    rng = np.random.default_rng(m)
    sharp = 0.05 if kind == "one lag" else 1.0
    task = MTD("random", rng.dirichlet(np.full(q, sharp) + 0.01, size=q), m, lengths=(length,))
    if kind == "drawn":
        return task, sample(task, length, batch, 0).contexts
    # Every token from lag 1 by a sharp π: the posterior is concentrated at a vertex, and the most nodes are needed.
    tokens = rng.integers(0, q, (batch, length))
    for t in range(m, length):
        tokens[:, t] = [rng.choice(q, p=task.transition[a]) for a in tokens[:, t - 1]]
    return task, tokens


if __name__ == "__main__":
    costs()
