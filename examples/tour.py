# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A tour
#
# From a generative model to a row on a board, in less than a minute.
#
# This page is `examples/tour.py`. Run it as a script, or open it as a notebook (Jupytext, VS Code). What you see below
# was computed when this page was built.

# %%
import shlex
import subprocess
import sys
from pathlib import Path

import altair as alt
import jax
import numpyro
import pandas as pd

import mdbench
from mdbench.baselines import Exact

alt.renderers.enable("svg")
FOLDER = Path("tour")  # all that is written goes here
FOLDER.mkdir(exist_ok=True)

# %% [markdown]
# ## A task is a NumPyro model
#
# A task draws sequences. Each sequence has a latent of its own, and the sequence is all that a predictor sees.
#
# In this task the next token is drawn from a known matrix π, applied to one of the last two tokens. Which of the two
# is chosen with weights λ, anew for each token. The weights λ are the latent: they are drawn anew for each sequence.

# %%
task = mdbench.load_task("mtd-q3-m2")
with numpyro.handlers.seed(rng_seed=0):
    sites = numpyro.handlers.trace(task.lags).get_trace(length=10)
{name: site["value"].shape for name, site in sites.items() if site["type"] == "sample"}

# %% [markdown]
# `mdbench.sample` draws many sequences. They are the same for everybody.

# %%
sequences = mdbench.sample(task, length=128, n_sequences=2, seed=0)
print("the first tokens:", sequences.tokens[0, :24])
print("their weights λ: ", sequences.weights[0].round(3))

# %% [markdown]
# ## Gold is the exact posterior
#
# NUTS can sample the posterior of λ. Here it need not: the posterior is known to many digits, after every token. This
# exact answer is called *gold*. Below are the weights that the first sequence was drawn with, and their posterior mean.

# %%
context = sequences.contexts[:1]
exact = Exact().posterior(task, context, lengths=range(task.order, 129))
nuts = numpyro.infer.MCMC(numpyro.infer.NUTS(task.model), num_warmup=300, num_samples=1000, progress_bar=False)
nuts.run(jax.random.key(0), context[0])
means = {"drawn": sequences.weights[0], "exact": exact.mean[0, -1], "NUTS": nuts.get_samples()["weights"].mean(axis=0)}
pd.DataFrame(means, index=["weight of lag 1", "weight of lag 2"]).round(4)

# %% [markdown]
# What is known of λ grows with the context. The line is the posterior mean of the first weight, the band two standard
# deviations; the rule is the true weight.

# %%
mean, sd = exact.mean[0, :, 0], exact.sd[0, :, 0]
known = pd.DataFrame({"tokens": exact.lengths, "weight": mean, "low": mean - 2 * sd, "high": mean + 2 * sd})
base = alt.Chart(known).encode(alt.X("tokens", title="tokens seen"))
band = base.mark_area(opacity=0.25).encode(
    alt.Y("low", title="weight of lag 1").scale(domain=[0, 1], clamp=True), y2="high"
)
true = alt.Chart(pd.DataFrame({"weight": [sequences.weights[0, 0]]})).mark_rule(strokeDash=[4, 4]).encode(y="weight")
band + base.mark_line().encode(y="weight") + true

# %% [markdown]
# ## A predictor of one's own
#
# A predictor takes contexts and returns the probabilities of the next token. Here is one. It gives each token seen as
# credit to the lags, in proportion to how well each foretold it. The credits are the new weights, and it begins again:
# this is EM.

# %%
_ = (FOLDER / "mine.py").write_text("""\
class Credit:
    def __init__(self, task, steps=1):
        self.task, self.steps = task, steps

    def predict(self, contexts):
        likelihoods = self.task.likelihoods(contexts)  # (batch, tokens, lags)
        weights = self.task.prior_mean
        for _ in range(self.steps):
            credit = likelihoods * weights
            credit /= credit.sum(axis=-1, keepdims=True)
            weights = credit.mean(axis=1, keepdims=True)
        return self.task.truth(weights[:, 0], contexts)
""")

# %% [markdown]
# `evaluate` scores it beside others. *Excess KL* is the distance to the best possible prediction, in nats: 0 is gold.

# %%
one, ten = f"{FOLDER}/mine.py:Credit", f"{FOLDER}/mine.py:Credit:steps=10"
evaluation = mdbench.evaluate([one, ten, "md1"], task=task, references=["uniform"], n_sequences=512)
evaluation

# %% [markdown]
# With 16 tokens ten steps are worse than one: EM goes to the maximum of the likelihood, and has no prior that holds it
# back. From 64 tokens on they are better than `md1`, one step of another algorithm (Mirror Descent) with a tuned size.

# %%
scores = evaluation.table
alt.Chart(scores).mark_line(point=True).encode(
    alt.X("length", title="tokens seen").scale(type="log", base=2),
    alt.Y("excess_kl", title="excess KL (nats)").scale(type="log"),
    alt.Color("predictor", title=None),
)

# %% [markdown]
# ## A comparison
#
# Are two predictors different, or is it chance? Both are scored on the same sequences, so their difference is known
# better than either score.

# %%
pd.DataFrame(mdbench.compare(ten, "md1", task=task, n_sequences=512))[
    ["length", "difference", "difference_ci", "verdict"]
]

# %% [markdown]
# ## A record, and a row on a board
#
# A record holds the predictions themselves, so that anybody can score them again. A predictor of one's own is recorded
# in a process apart. A board ranks the records of a folder.


# %%
def run(command):
    """Run a command of mdbench; what it prints is not needed here."""
    done = subprocess.run([sys.executable, "-m", "mdbench", *shlex.split(command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


run(f"evaluate --record --predictor {ten} --predictor md1 --n-sequences 128 --leaderboard {FOLDER}/board")
run(f"verify --leaderboard {FOLDER}/board")
run(f"leaderboard build --leaderboard {FOLDER}/board")
board = pd.read_csv(FOLDER / "board" / "board.csv")
board[["position", "predictor", "kind", "score", "interval_low", "interval_high", "sequences"]]

# %% [markdown]
# The score is a ratio to `md1`, over all tasks of the suite `core`: lower is better. `tour/board/index.html` is
# the same with charts. The board of the project itself ranks such records of all built-in predictors.
