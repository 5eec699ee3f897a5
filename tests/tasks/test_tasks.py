"""Tasks: the models' densities, the sampler's distribution and its promises, files and names."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from numpyro import handlers, optim
from numpyro.contrib.funsor import enum
from numpyro.contrib.funsor import infer_util as funsor_infer
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density
from scipy import stats

from mdbench.baselines import Urn
from mdbench.core import metrics
from mdbench.core.errors import InputError
from mdbench.tasks import (
    MTD,
    Stream,
    boards_of,
    lag_likelihoods,
    load_suite,
    load_task,
    mtd_lags,
    mtd_model,
    next_token_probs,
    sample,
    suite_names,
    task_names,
)

PI = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
TASK = MTD("t", PI, order=2, concentration=1.5)
TOKENS = np.array([0, 2, 1, 1, 2, 0, 0])
WEIGHTS = np.array([0.35, 0.65])


def log_joint_by_hand(tokens, weights):
    """Return log p(λ, y), written out with scipy and loops."""
    total = stats.dirichlet.logpdf(weights, [1.5, 1.5]) - 2 * np.log(3)
    for t in range(2, len(tokens)):
        total += np.log(sum(weights[g] * PI[tokens[t - 1 - g], tokens[t]] for g in range(2)))
    return total


def test_density_of_mtd_is_the_closed_form():
    density, _ = log_density(mtd_model, (TASK, jnp.asarray(TOKENS)), {}, {"weights": jnp.asarray(WEIGHTS)})
    assert density == pytest.approx(log_joint_by_hand(TOKENS, WEIGHTS), abs=1e-12)


def test_density_of_mtd_lags_summed_over_all_lags_is_that_of_mtd():
    total = 0.0
    for lags in itertools.product(range(2), repeat=len(TOKENS) - 2):
        sites = {"weights": jnp.asarray(WEIGHTS), "lag": jnp.asarray(lags)}
        total += np.exp(log_density(mtd_lags, (TASK, jnp.asarray(TOKENS)), {}, sites)[0])
    assert np.log(total) == pytest.approx(log_joint_by_hand(TOKENS, WEIGHTS), abs=1e-12)


def test_mtd_lags_can_be_enumerated_by_numpyro():
    model = enum(mtd_lags, first_available_dim=-2)
    density, _ = funsor_infer.log_density(model, (TASK, jnp.asarray(TOKENS)), {}, {"weights": jnp.asarray(WEIGHTS)})
    assert density == pytest.approx(log_joint_by_hand(TOKENS, WEIGHTS), abs=1e-10)


def test_density_of_drawing_is_that_of_conditioning():
    """The branch that draws (a scan) and the one that is given tokens (a plate) are one model."""
    sites = {"weights": WEIGHTS, "initial": TOKENS[:2], "token": TOKENS[2:]}
    drawing, _ = log_density(mtd_model, (TASK,), {"length": len(TOKENS)}, jax.tree.map(jnp.asarray, sites))
    assert drawing == pytest.approx(log_joint_by_hand(TOKENS, WEIGHTS), abs=1e-12)


def test_lag_likelihoods_and_next_token_by_hand():
    x = lag_likelihoods(TASK, TOKENS[None])[0]
    by_hand = [[PI[TOKENS[t - 1], TOKENS[t]], PI[TOKENS[t - 2], TOKENS[t]]] for t in range(2, 7)]
    np.testing.assert_array_equal(x, by_hand)
    expected = WEIGHTS[0] * PI[TOKENS[-1]] + WEIGHTS[1] * PI[TOKENS[-2]]
    np.testing.assert_allclose(next_token_probs(TASK, WEIGHTS[None], TOKENS[None])[0], expected, rtol=1e-15)


@pytest.mark.slow
def test_nuts_and_svi_run_on_mtd_and_find_the_exact_posterior():
    """Any NumPyro inference takes the model; NUTS within 5 standard errors at a pessimistic ESS of a tenth."""
    contexts = jnp.asarray(sample(TASK, 60, 1, seed=1).tokens[0, :-1])
    gold = Urn().posterior(TASK, np.asarray(contexts)[None])
    nuts = MCMC(NUTS(mtd_model), num_warmup=300, num_samples=1000, progress_bar=False)
    nuts.run(jax.random.key(0), TASK, contexts)
    draws = np.asarray(nuts.get_samples()["weights"])
    assert np.abs(draws.mean(axis=0) - gold.mean[0, 0]).max() < 5 * gold.sd[0, 0].max() / np.sqrt(100)
    assert gold.sd[0, 0].max() < 0.25  # the prior's is 0.25: the data say something
    svi = SVI(mtd_model, AutoNormal(mtd_model), optim.Adam(0.02), Trace_ELBO())
    losses = svi.run(jax.random.key(0), 300, TASK, contexts, progress_bar=False).losses
    assert losses[-50:].mean() < losses[:50].mean()


# ----------------------------------------------------------------------------------------------------- sampling


def test_a_sequence_depends_on_task_seed_and_index_alone(core_task):
    many = sample(core_task, 140, 60, seed=3)
    fewer_and_shorter = sample(core_task, 16, 20, seed=3)
    np.testing.assert_array_equal(many.tokens[:20, :17], fewer_and_shorter.tokens)
    np.testing.assert_array_equal(many.weights[:20], fewer_and_shorter.weights)
    later = sample(core_task, 140, 10, seed=3, start=50)
    np.testing.assert_array_equal(many.tokens[50:], later.tokens)


def test_more_than_one_chunk_of_sequences_is_the_same_sequences():
    many = sample(TASK, 5, 2100, seed=0)
    np.testing.assert_array_equal(many.tokens[2040:2060], sample(TASK, 5, 20, seed=0, start=2040).tokens)


def test_streams_and_seeds_and_tasks_do_not_share_sequences():
    other = MTD("other", PI, order=2, concentration=1.0)
    draws = [sample(TASK, 20, 50, seed, stream=stream).weights for stream in Stream for seed in (0, 1)]
    draws.append(sample(other, 20, 50, 0).weights)
    for a, b in itertools.combinations(draws, 2):
        assert not np.isclose(a[:, None], b[None]).all(axis=-1).any()


def test_sample_has_the_distribution_of_the_task():
    """Weights, first tokens, lags and tokens against their probabilities: |z| < 4.5 in every one of 28 tests."""
    n, length = 20_000, 6
    drawn = sample(TASK, length, n, seed=0)
    z = []
    mean, var = 0.5, 0.5 * 0.5 / (3 + 1)  # Dirichlet(1.5, 1.5)
    z.append((drawn.weights[:, 0].mean() - mean) / np.sqrt(var / n))
    second = (drawn.weights[:, 0] - mean) ** 2
    z.append((second.mean() - var) / (second.std() / np.sqrt(n)))
    for t in range(2):
        for b in range(3):
            z.append(((drawn.tokens[:, t] == b).mean() - 1 / 3) / np.sqrt(2 / 9 / n))
    for k in range(length - 1):  # E[1{z = g} - λ_g] = 0
        d = (drawn.lags[:, k] == 1) - drawn.weights[:, 0]
        z.append(d.mean() / (d.std() / np.sqrt(n)))
    for length_k in range(2, length):  # E[1{y = b} - p_λ(b)] = 0 at each length
        probs = next_token_probs(TASK, drawn.weights, drawn.tokens[:, :length_k])
        for b in range(3):
            d = (drawn.tokens[:, length_k] == b) - probs[:, b]
            z.append(d.mean() / (d.std() / np.sqrt(n)))
    for b in range(3):  # and of the last token against what `sample` says of it, with a second moment
        d = ((drawn.tokens[:, -1] == b) - drawn.next_probs[:, b]) * drawn.next_probs[:, b]
        z.append(d.mean() / (d.std() / np.sqrt(n)))
    assert len(z) == 28
    assert np.abs(z).max() < 4.5


def test_drawn_tokens_follow_their_lags(zeros_task):
    """Every token can follow the token at the lag that it was drawn from: a swapped lag meets a zero of π."""
    drawn = sample(zeros_task, 30, 500, seed=0)
    m, n = 2, drawn.lags.shape[1]
    source = drawn.tokens[np.arange(500)[:, None], m + np.arange(n) - drawn.lags]
    assert (zeros_task.transition[source, drawn.tokens[:, m:]] > 0).all()


def test_mtd_and_mtd_lags_draw_from_the_same_distribution():
    def first_two(model, key):
        sites = handlers.trace(handlers.seed(model, key)).get_trace(TASK, length=5)
        return sites["token"]["value"]

    keys = jax.random.split(jax.random.key(0), 20_000)
    counts = [
        np.unique(jax.vmap(lambda key, m=model: first_two(m, key))(keys) @ jnp.array([1, 3, 9]), return_counts=True)[1]
        for model in (mtd_model, mtd_lags)
    ]
    assert stats.chi2_contingency(np.array(counts)).pvalue > 1e-4


# ------------------------------------------------------------------------------------------- names, files, hashes


def test_built_in_tasks_are_worth_solving(core_task):
    """No entry below 0.005, and ignoring the context costs at least 0.01 nats at T = 64."""
    assert core_task.transition.min() >= 0.005
    contexts = sample(core_task, 64, 256, seed=7).contexts
    bayes = next_token_probs(core_task, Urn().posterior(core_task, contexts).mean[:, 0], contexts)
    uniform = next_token_probs(core_task, np.full((256, core_task.order), 1 / core_task.order), contexts)
    excess = metrics.kl(bayes, uniform)
    assert excess.mean() - 3 * excess.std() / 16 > 0.01


def test_suites_are_frozen():
    """A change to a built-in task is a new version of it and of the suites; then this table gets another line."""
    assert {name: load_task(name).task_hash[:12] for name in task_names()} == {
        "diversity-q5-m3-1024": "0b0d4a14cdca",
        "diversity-q5-m3-128": "5073e35e4a3a",
        "diversity-q5-m3-16": "1076a44c03a9",
        "diversity-q5-m3-2": "4ea68f70a2e3",
        "hmm-q3-h2-k4": "83c957b96dbd",
        "hmm-q5-h3": "5c846e0abf68",
        "markov-q3-k1": "f6db250ca267",
        "markov-q5-k1": "776c8dfe09c5",
        "mtd-q10-m4": "65f5ce3b64c9",
        "mtd-q3-m2": "c5701c42ff86",
        "mtd-q5-m3": "fb0d7c9b5909",
        "seattle-rain": "466c67188d1d",
        "selective-q3-m2": "a3391d7461c5",
        "selective-q5-m3": "2338bcbd607e",
        "tree-q2-d3": "918aa54f8806",
        "tree-q3-d3": "298701812404",
    }
    kinds = ("core", "long", "selective", "markov", "hmm", "tree", "diversity")
    assert set(suite_names()) == {*kinds, *(f"{kind}-v1" for kind in kinds), "real", "real-v1"}
    assert load_suite("core") == load_suite("core-v1")
    assert load_suite("core").tasks == ("mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4")
    assert load_suite("core").lengths == (16, 32, 64, 128)
    assert load_suite("long").lengths == (192, 256)
    for kind in kinds[2:]:
        suite = load_suite(kind)
        assert (suite.lengths, suite.unit) == ((32, 128), "uniform")
        assert set(suite.tasks) == {name for name in task_names() if name.startswith(f"{kind}-")}
    assert load_suite("core").unit == "md1"


def test_suites_of_the_same_tasks_share_a_board():
    assert boards_of([]) == []
    assert boards_of(["mtd-q5-m3", "hmm-q5-h3", "mine"]) == ["core", "hmm"]
    assert boards_of(["tree-q2-d3", "selective-q3-m2"]) == ["selective", "tree"]


def test_hash_covers_what_defines_the_task_and_nothing_else():
    changed = PI.copy()
    changed[0] = [0.7, 0.2 + 1e-15, 0.1]
    others = [
        dataclasses.replace(TASK, order=3),
        dataclasses.replace(TASK, concentration=1.0),
        dataclasses.replace(TASK, version=2),
        dataclasses.replace(TASK, transition=changed),
    ]
    assert len({task.task_hash for task in [TASK, *others]}) == 5
    assert dataclasses.replace(TASK, name="u", lengths=(9,)).task_hash == TASK.task_hash


def test_a_task_file_defines_the_same_task(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("order = 2\nconcentration = 1.5\nlengths = [8, 9]\ntransition = " + str(PI.tolist()))
    task = load_task(path)
    assert (task.name, task.lengths, task.task_hash) == ("mine", (8, 9), TASK.task_hash)


GOOD = {"order": "2", "transition": "[[0.5, 0.5], [0.1, 0.9]]", "lengths": "[8]", "concentration": "1.0"}


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"order": "0"}, "order must be a whole number of at least 1"),
        ({"order": "1.5"}, "order must be a whole number"),
        ({"order": "true"}, "order must be a whole number"),
        ({"concentration": "-1.0"}, "concentration must be a number from 1e-10 to 1e.10, not -1.0"),
        ({"concentration": "inf"}, "concentration must be a number from"),
        ({"concentration": "1e-300"}, "concentration must be a number from"),
        ({"lengths": "[2]"}, "at least order + 1 = 3"),
        ({"lengths": "[]"}, "lengths is empty"),
        ({"lengths": "8"}, "lengths must be a list"),
        ({"transition": "[[0.5, 0.6], [0.1, 0.9]]"}, "row 1 of the transition matrix sums to 1.1"),
        ({"transition": "[[0.5, 0.5], [-0.1, 1.1]]"}, "row 2 of the transition matrix holds -0.1"),
        ({"transition": "[[0.5, 0.5], [nan, 0.9]]"}, "row 2 of the transition matrix holds nan"),
        ({"transition": "[[0.5, 0.5]]"}, "must be square"),
        ({"transition": "[[0.5, 0.5], [1.0]]"}, "must be q rows of q numbers"),
        ({"transition": '"no"'}, "must be q rows of q numbers"),
        ({"name": '"../x"'}, "name must be 1 to 200 printable characters without slashes"),
        ({"version": "1.5"}, "version must be a whole number"),
        ({"ordre": "2"}, "did you mean 'order'?"),
        ({"order": ""}, "is not TOML"),
    ],
)
def test_a_bad_task_file_is_refused_with_a_sentence(tmp_path, change, sentence):
    path = tmp_path / "bad.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in (GOOD | change).items()))
    with pytest.raises(InputError, match=sentence.replace("order +", r"order \+").replace("?", r"\?")):
        load_task(path)


def test_rows_rounded_to_six_places_are_taken_and_divided_by_their_sum():
    task = MTD("thirds", np.full((3, 3), 0.333333), order=1)
    np.testing.assert_allclose(task.transition, 1 / 3, rtol=1e-15)
    with pytest.raises(InputError, match=r"row 1 of the transition matrix sums to 0\.99999"):
        MTD("off", np.full((3, 3), 0.33333), order=1)


def test_names_nobody_knows():
    with pytest.raises(InputError, match="did you mean 'mtd-q5-m3'"):
        load_task("mtd-q5-m33")
    with pytest.raises(InputError, match="did you mean 'core'"):
        load_suite("cor")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_task("absent.toml")


@pytest.mark.wrong_types
def test_contexts_outside_the_states_and_impossible_sequences(zeros_task):
    with pytest.raises(InputError, match=r"sequence 2: state 3 at position 3 is outside 0\.\.2"):
        lag_likelihoods(TASK, np.array([[0, 1, 2], [0, 1, 3]]))
    with pytest.raises(InputError, match="sequence 1: state -1"):
        lag_likelihoods(TASK, np.array([[0, -1, 2]]))
    with pytest.raises(InputError, match=r"sequence 2: impossible .* state 2 at position 4"):
        lag_likelihoods(zeros_task, np.array([[0, 1, 1, 1], [0, 0, 0, 2]]))
    with pytest.raises(InputError, match="integers of shape"):
        lag_likelihoods(TASK, np.array([[0.0, 1.0, 2.0]]))


def test_tasks_of_other_distributions_go_wherever_a_built_in_goes(monkeypatch, tmp_path, caplog):
    from importlib.metadata import EntryPoint

    from mdbench.tasks import catalogue as module

    (tmp_path / "file.toml").write_text("order = 1\ntransition = [[0.5, 0.5], [0.1, 0.9]]\n")
    monkeypatch.setattr(f"{__name__}.A_FILE", str(tmp_path / "file.toml"))
    names = ("A_TASK", "a_task", "A_FILE", "NOT_A_TASK", "raises", "absent")
    points = [EntryPoint(f"plugin-{name}", f"{__name__}:{name}", module.GROUP) for name in names]
    points.append(EntryPoint("mtd-q3-m2", "not.there:task", module.GROUP))
    monkeypatch.setattr(module, "entry_points_of", lambda _group: points)
    module._from_plugin.cache_clear()
    for name in names[:3]:
        assert load_task(f"plugin-{name}").order == 1
    assert load_task("mtd-q3-m2").order == 2  # a built-in wins
    assert "mtd-q3-m2" not in module.plugin_tasks()
    assert "'mtd-q3-m2' is not used: a built-in task has that name" in caplog.text
    for name, said in (("NOT_A_TASK", "is int, not a task"), ("raises", "ZeroDivisionError"), ("absent", "absent")):
        with pytest.raises(InputError, match=said):
            load_task(f"plugin-{name}")
    with pytest.raises(InputError, match="did you mean 'plugin-A_TASK'"):
        load_task("plugin-A_TAS")
    module._from_plugin.cache_clear()


A_TASK, A_FILE, NOT_A_TASK = MTD("mine", np.array([[0.5, 0.5], [0.2, 0.8]]), 1), "", 3


def a_task():
    return A_TASK


def raises():
    raise ZeroDivisionError
