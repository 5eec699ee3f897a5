"""How fast the exact posterior is: ratios against two opponents in one run, and how its cost grows.

    python tests/benchmarks/exact.py            (`make bench` runs it)
    python tests/benchmarks/exact.py --costs    the table of docs/exact_gold.md

All opponents are jitted, warm, vectorised over sequences and in float64, and every time is the median of several.
"""

import argparse
import functools
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from mdbench.baselines import Exact
from mdbench.core.errors import InputError
from mdbench.tasks import MTD, lag_likelihoods, load_task, sample

quadrature = sys.modules["mdbench.baselines.exact"]


def median_time(function, repeats=5):
    """Median wall time of a call, in seconds, after one that is not counted; and what it returned."""
    found = function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - started)
    return float(np.median(times)), found


def against_nuts(task, contexts):
    """Per prefix and sequence: exact at all prefixes against NUTS at one, 1,000 draws after 300 of warm-up."""
    n_prefixes = contexts.shape[1] - task.order
    lengths = range(task.order + 1, contexts.shape[1] + 1)
    exact_time, gold = median_time(lambda: Exact().posterior(task, contexts, lengths=lengths))
    few = contexts[:256]
    # One chain: the fewest draws that count as 1,000. Gates (R-hat and the like) are left out of its time.
    sampler = functools.partial(_nuts_draws, task, few)
    nuts_time, draws = median_time(sampler, repeats=3)
    per_exact = exact_time / (len(contexts) * n_prefixes)
    per_nuts = nuts_time / len(few)
    nuts_error = np.abs(draws.mean(axis=(1, 2)) - gold.mean[:256, -1])
    rows = [
        (
            "exact, all prefixes",
            f"{exact_time:.3f} s for {len(contexts)} sequences",
            f"{per_exact:.2e} s",
            gold.error.max(),
        ),
        ("NUTS, one prefix", f"{nuts_time:.2f} s for {len(few)} sequences", f"{per_nuts:.2e} s", np.median(nuts_error)),
    ]
    print(f"\n{task.name}, T = {contexts.shape[1]}: exact posterior against NumPyro's NUTS (1,000 draws)")
    for name, whole, per, error in rows:
        print(f"  {name:22s} {whole:32s} per sequence and prefix {per}, error of the mean {error:.1e}")
    print(f"  ratio of times {per_nuts / per_exact:,.0f}; ratio of errors {rows[1][3] / rows[0][3]:.1e}")
    print("  (errors: the largest bound of exact, the median of NUTS)")


def _nuts_draws(task, contexts):
    from mdbench.baselines.baseline import sequence_seeds
    from mdbench.baselines.chains import CHUNK, chain_keys
    from mdbench.baselines.nuts import _compiled

    run = _compiled(300, 1000, 3, 0.8)
    keys, x = chain_keys(sequence_seeds(contexts, 0), 1), lag_likelihoods(task, contexts)
    chunks = [slice(i, i + CHUNK) for i in range(0, len(x), CHUNK)]
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda c: np.asarray(run(keys[c], x[c], task.concentration)["weights"]), chunks))
    return np.concatenate(parts)


def against_logsumexp(task, contexts, n_nodes):
    """The same sums over the same nodes, by running products and by logarithms."""
    x = lag_likelihoods(task, contexts)
    sticks, counts = quadrature._sticks(n_nodes, task.order, task.concentration)
    factors, exponent = quadrature._scaled_factors(x, quadrature._as_learned(x, task.concentration))
    everywhere = np.ones(x.shape[1], dtype=bool)
    chunks = [slice(i, i + quadrature.CHUNK) for i in range(0, len(x), quadrature.CHUNK)]
    weights, mass = _grid(sticks[:, :3, :n_nodes])
    log_mass, moments = jnp.log(mass), jnp.concatenate([weights, weights**2], axis=1)

    @jax.jit
    def by_logarithms(x):  # (chunk, n, m) -> log of the sums, (chunk, n, 2m)
        # logsumexp with one exp a node instead of one a node and moment: the stronger opponent.
        terms = jnp.cumsum(jnp.log(x @ weights.T), axis=1) + log_mass  # (chunk, n, nodes)
        top = terms.max(axis=2, keepdims=True)
        return jnp.log(jnp.exp(terms - top) @ moments) + top

    def run_products():
        with ThreadPoolExecutor(2) as pool:
            parts = list(
                pool.map(lambda c: quadrature._integrate(factors[c], sticks, counts, 0, 1, everywhere), chunks)
            )
            return np.concatenate([np.concatenate(part, axis=-1) for part in parts])

    def run_logarithms():
        with ThreadPoolExecutor(2) as pool:
            return np.concatenate(list(pool.map(lambda c: np.asarray(by_logarithms(x[c])), chunks)))

    products_time, products = median_time(run_products)
    logarithms_time, logarithms = median_time(run_logarithms)
    gap = np.abs(np.log(products) + exponent[..., None] * np.log(2) - logarithms).max()
    print(f"\n{task.name}, T = {contexts.shape[1]}, {len(x)} sequences: {n_nodes} nodes a stick, all prefixes")
    ratio = logarithms_time / products_time
    print(f"  running products {products_time:.3f} s, logsumexp {logarithms_time:.3f} s: {ratio:.1f} times faster;")
    print(f"  they differ by {gap:.0e} in the logarithm")


def _grid(rules):
    """λ at the nodes of the tensor grid, (nodes, m), and their prior mass."""
    index = np.indices([rules.shape[2]] * len(rules)).reshape(len(rules), -1)
    left, mass, weights = 1.0, 1.0, []
    for (node, rest, weight), k in zip(rules, index, strict=True):
        weights.append(left * node[k])
        left, mass = left * rest[k], mass * weight[k]
    return jnp.asarray(np.stack([*weights, left], axis=1)), jnp.asarray(mass)


def costs():
    """Time of a sequence by order, length and batch, and peak memory so far."""
    print("| m | T | B | s a sequence | nodes x transitions, last rung | peak GiB |")
    print("|---|---|---|---|---|---|")
    for m, length, batch, kind in (
        (2, 128, 1024, "drawn"), (3, 32, 1024, "drawn"), (3, 128, 1, "drawn"), (3, 128, 64, "drawn"),
        (3, 128, 1024, "drawn"), (3, 256, 1024, "drawn"), (4, 128, 1024, "drawn"), (4, 256, 64, "drawn"),
        (5, 64, 8, "drawn"), (5, 128, 8, "drawn"), (5, 128, 1, "one lag"), (6, 64, 4, "drawn"), (6, 128, 4, "drawn"),
        (6, 128, 1, "one lag"),
    ):  # fmt: skip
        task, contexts = _random_case(m, length, batch, kind)
        Exact().posterior(task, contexts[:1])
        for n_nodes in quadrature._ladder(length - m):
            quadrature._sticks(n_nodes, m, task.concentration)
        started = time.perf_counter()
        Exact().posterior(task, contexts)
        seconds = (time.perf_counter() - started) / batch
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        top = (length - m) * quadrature._ladder(length - m)[-1] ** (m - 1)
        name = f"{length} ({kind})" if kind != "drawn" else str(length)
        print(f"| {m} | {name} | {batch} | {seconds:.3g} | {top:.1e} | {memory:.2f} |", flush=True)
    for m, length in ((6, 192), (7, 128), (8, 64)):
        task, contexts = _random_case(m, length, 1, "drawn")
        try:
            Exact().posterior(task, contexts)
        except InputError as refusal:
            print(f"\n{refusal}")


def _random_case(m, length, batch, kind):
    rng = np.random.default_rng(m)
    sharp = 0.05 if kind == "one lag" else 1.0
    task = MTD("random", rng.dirichlet(np.full(5, sharp) + 0.01, size=5), m, lengths=(length,))
    if kind == "drawn":
        return task, sample(task, length, batch, 0).contexts
    # Every token from lag 1 by a sharp π: the posterior is concentrated at a vertex, and the most nodes are needed.
    tokens = rng.integers(0, 5, (batch, length))
    for t in range(m, length):
        tokens[:, t] = [rng.choice(5, p=task.transition[a]) for a in tokens[:, t - 1]]
    return task, tokens


def main():
    """Print the ratios, or the table of costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", action="store_true")
    if parser.parse_args().costs:
        costs()
        return
    task = load_task("mtd-q5-m3")
    contexts = sample(task, 128, 1024, 0).contexts
    against_nuts(task, contexts)
    against_logsumexp(task, contexts, 24)
    against_logsumexp(task, contexts, 34)


if __name__ == "__main__":
    main()
