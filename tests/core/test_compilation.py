"""What compiles: once for a shape, kept between commands, with jax's settings whatever the environment says."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import mdbench
from mdbench.core import compilation
from mdbench.tasks import MTD, load_task, sample


def python(*arguments, **environment):
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_no_setting_of_the_environment_changes_what_is_drawn():
    script = (
        "import json; from mdbench.tasks import load_task, sample\n"
        "print(json.dumps(sample(load_task('mtd-q3-m2'), 16, 5, seed=5).tokens.tolist()))"
    )
    odd = {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0", "JAX_RANDOM_SEED_OFFSET": "7"}
    found, _ = python("-c", script, **odd, JAX_ENABLE_X64="0")
    assert json.loads(found) == sample(load_task("mtd-q3-m2"), 16, 5, seed=5).tokens.tolist()


def test_the_settings_hold_where_jax_was_imported_before():
    script = (
        "import jax; jax.config.update('jax_random_seed_offset', 7); import mdbench\n"
        "print(jax.config.jax_random_seed_offset, jax.config.jax_enable_x64, jax.config.jax_default_prng_impl)"
    )
    assert python("-c", script)[0].split() == ["0", "True", "threefry2x32"]


@pytest.mark.parametrize("command", [["list"], ["show", "mtd-q3-m2"], ["verify", "--help"]], ids=" ".join)
def test_what_says_what_there_is_imports_neither_jax_nor_torch(command):
    imported = {
        line.rpartition("|")[2].strip()
        for line in python("-X", "importtime", "-m", "mdbench", *command)[1].splitlines()
    }
    assert "mdbench.cli" in imported
    assert not {name for name in imported if name.partition(".")[0] in ("jax", "torch", "numpyro", "scipy", "pandas")}


def test_a_second_task_of_the_same_shape_compiles_nothing():
    rng = np.random.default_rng(0)
    first, second = (MTD(f"t{k}", rng.dirichlet(np.ones(4), 4), 3, 1.0 + k, lengths=(12,)) for k in range(2))
    compiled = []

    def listen(event, _seconds, **_more):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    def use(task):
        sample(task, 12, 40, seed=1)
        mdbench.evaluate(
            ["bayes", "md:steps=2,eta=0.1", "em", "constructed_l3:eta=0.1"],
            task=task,
            n_sequences=40,
            seed=1,
            references=(),
            cache="none",
        )

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        use(first)
        assert compiled
        compiled.clear()
        use(second)
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


def test_compiled_code_is_of_one_processor_and_one_set_of_versions(monkeypatch):
    here = compilation.machine()
    monkeypatch.setattr(compilation, "version", lambda _library: "99")
    compilation.machine.cache_clear()
    try:
        assert compilation.machine() != here
    finally:
        compilation.machine.cache_clear()


def test_compiled_code_is_kept_and_a_folder_that_cannot_be_written_costs_time_only(tmp_path):
    script = (
        "from mdbench.baselines import Urn; from mdbench.tasks import load_task\n"
        "print(Urn().posterior(load_task('mtd-q3-m2'), [[0, 1, 2, 1]]).mean.tolist())"
    )
    (tmp_path / "file").write_text("in the way")
    found = {
        python("-c", script, JAX_COMPILATION_CACHE_DIR=str(tmp_path / folder), PYTHONWARNINGS="error")[0]
        for folder in ("compiled", "file/compiled")
    }
    assert len(found) == 1
    assert {".nbi", ".nbc"} <= {path.suffix for path in (tmp_path / "compiled" / "numba").rglob("*")}
