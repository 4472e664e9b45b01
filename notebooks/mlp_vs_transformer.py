# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # MLP against Transformer at matched size
#
# The usual claim is that an MLP stalls where a Transformer goes on. A study trains both families at matched parameter
# counts on the same arms, seeds and teachers, so that the claim can be looked at in three ways: against updates,
# against data, and pair by pair.
#
# Set `TABLE` (here, or in the environment) to a study's `runs.csv` (its `learning.csv` lies beside it); left empty it
# takes the small study of generated motion that the project keeps.

# %%
import os
from pathlib import Path

import numpy as np

from scaling.laws import fit_groups, read_table
from scaling.laws.figures import Shown, learning_curves, loss_curves, svg, throughput

TABLE = os.environ.get("TABLE", "")
LOSS, DATA = "val_loss", "unique_frames"

# %% [markdown]
# ## The table
#
# Runs under the study's most frequent cluster count, so that all students have the same teachers.

# %%
kept = Path("experiments") if Path("experiments").is_dir() else Path("../experiments")  # the checkout, or notebooks/
path = Path(TABLE) if TABLE else kept / "quickstart_generated" / "runs.csv"
table = read_table(path)
table = table.select(table.column("status") == "finished")
counts, frequency = np.unique(table.column("clusters"), return_counts=True)
clusters = counts[np.argmax(frequency)]
table = table.select(table.column("clusters") == clusters)
print(f"{path}: {len(table)} runs under K = {clusters:.0f}")

# %% [markdown]
# ## Does it stall? Loss against updates on the full arm

# %%
logged = path.with_name("learning.csv")
learned = None
if logged.is_file():
    curves = read_table(logged)
    full = (curves.column("arm") == curves.numeric("arm")[0].max()) & (curves.column("clusters") == clusters)
    learned = learning_curves(curves.select(full), panel="size")
Shown(svg(learned) if learned is not None else f"No {logged} beside the table: there are no curves to draw.")

# %% [markdown]
# ## Loss against data, size by size
#
# A curve is fitted without the hollow points, which it then has to predict; a dotted one is no law.

# %%
sizes = sorted(set(table.column("size")))
by_size = {}
for size in sizes:
    part = table.select(table.column("size") == size)
    laws, refused = fit_groups(part, by=("student",), loss=LOSS, data=DATA, run="run", resamples=300)
    named = {(DATA, group): law for group, law in laws.items()}
    by_size[size] = loss_curves(part, loss=LOSS, x=(DATA,), by=("student",), laws=named, title=f"size {size}")
Shown("<svg" + "<svg".join(svg(figure)[4:] for figure in by_size.values()))

# %% [markdown]
# ## Pair by pair
#
# The log ratio of the two losses within each size, arm and seed, so that data and luck of the seed cancel; the interval
# is a bootstrap over these pairs. Below zero the Transformer is ahead.

# %%
rng = np.random.default_rng(0)
losses = table.numeric(LOSS)[0]
where = list(zip(*(table.column(name) for name in ("size", "arm", "seed")), strict=True))
of = {(student, *key): loss for student, key, loss in zip(table.column("student"), where, losses, strict=True)}
lines = ["| size | Transformer against MLP | 95 % interval | pairs |", "|---|---|---|---|"]
advantage = {}
for size in sizes:
    keys = [key for key in dict.fromkeys(where) if key[0] == size and ("mlp", *key) in of]
    gap = np.array([np.log(of["transformer", *key] / of["mlp", *key]) for key in keys if ("transformer", *key) in of])
    drawn = rng.choice(gap, (4000, len(gap))).mean(axis=1)
    value, low, high = np.expm1([gap.mean(), *np.quantile(drawn, [0.025, 0.975])])
    advantage[size] = (float(value), float(low), float(high))
    lines.append(f"| {size} | {value:+.1%} | {low:+.1%} to {high:+.1%} | {len(gap)} |")
Shown("\n".join(lines))

# %% [markdown]
# ## What it costs
#
# Equal parameters are not equal seconds: work a second on the machine of the study, with all runs of a group in one
# program.

# %%
cost = throughput(table)
Shown(svg(cost))
