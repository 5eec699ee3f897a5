"""Exact gold in float64 on a GPU against the cores of the same machine, by jax; the same numbers to rounding.

``python tests/benchmarks/gold_on_gpu.py``. On a GPU 1,024 sequences are side by side; on the CPU, each time in a
process of its own, as many as the product has, on two cores and on all.
"""

import json
import os
import subprocess
import sys
import time

CELLS = ((64, 8192), (256, 2048))
ON_GPU = (1024, 512)  # sequences side by side, and grid nodes at a time


def measure() -> None:
    """In this process, on jax's device: milliseconds a sequence, and some posterior means."""
    import jax

    from mdbench.baselines import exact
    from mdbench.baselines.catalogue import build_baseline
    from mdbench.tasks import load_task, sample

    if jax.default_backend() != "cpu":
        width, block = ON_GPU
        exact.CHUNK, exact.BLOCK = dict.fromkeys(exact.CHUNK, width), {width: block}
    task, gold = load_task("mtd-q5-m3"), build_baseline("exact")
    for length, n in CELLS:
        tokens = sample(task, length, n, 5).contexts
        gold.posterior(task, tokens[:1024])
        started = time.perf_counter()
        mean = gold.posterior(task, tokens).mean
        seconds = time.perf_counter() - started
        print(json.dumps([length, 1e3 * seconds / n, mean[:100, -1].ravel().tolist()]))


def run(**environment: str) -> dict[int, tuple[float, list[float]]]:
    command = [sys.executable, __file__, "measure"]
    if cores := environment.pop("cores", None):
        command = ["taskset", "-c", cores, *command]
    done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
    return {length: (ms, mean) for length, ms, mean in map(json.loads, done.stdout.splitlines())}


def main() -> None:
    import jax

    if jax.default_backend() == "cpu":
        sys.exit("jax sees no GPU here.")
    gpu, two, every = run(), run(JAX_PLATFORMS="cpu", cores="0,1"), run(JAX_PLATFORMS="cpu")
    print(f"| T | ms a sequence, {jax.devices()[0].device_kind} | two cores | ratio | {os.cpu_count()} cores | ratio |")
    print("|---|---|---|---|---|---|")
    for length in gpu:
        ms, twos, all_ = gpu[length][0], two[length][0], every[length][0]
        print(f"| {length} | {ms:.3f} | {twos:.3f} | {twos / ms:.1f} | {all_:.3f} | {all_ / ms:.1f} |")
        apart = max(abs(a - b) for a, b in zip(gpu[length][1], two[length][1], strict=True))
        assert apart < 1e-12, apart


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
