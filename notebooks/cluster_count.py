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
# # How many clusters?
#
# A study with several cluster counts K (a large one takes 128, 384 and 1,024) trains a bank of K experts for each and
# distils the same students from each bank. K changes the teachers, so a student's loss against its own bank measures
# another thing for each K: what compares is the closed loop, and beside it how good the experts are.
#
# Set `TABLE` (here, or in the environment) to a study's `runs.csv`; left empty it takes the small study of generated
# motion that the project keeps, with K = 2 and 4.

# %%
import os
from pathlib import Path

import numpy as np

from scaling.laws import read_table
from scaling.laws.figures import Shown, against_clusters, svg

TABLE = os.environ.get("TABLE", "")
OUTCOMES = ("survival_s", "success_sonic", "mpjpe_l_mm")
BANK = ("expert_survival_s_assist0", "expert_competent_share_assist0", "label_conflict")

# %% [markdown]
# ## The table
#
# Only the arm that every K was trained on can be compared, which is the full one.

# %%
kept = Path("experiments") if Path("experiments").is_dir() else Path("../experiments")  # the checkout, or notebooks/
path = Path(TABLE) if TABLE else kept / "quickstart_generated" / "runs.csv"
table = read_table(path)
table = table.select(table.column("status") == "finished")
arms = table.numeric("arm")[0]
table = table.select(arms == arms.max())
clusters = table.numeric("clusters")[0]
table, clusters = table.select(np.isfinite(clusters)), clusters[np.isfinite(clusters)]
counts = np.unique(clusters)
print(f"{path}: {len(table)} runs of the full arm, K = {', '.join(f'{k:.0f}' for k in counts)}")

# %% [markdown]
# ## The teachers, and what the students' losses say of them
#
# `label_conflict` is drawn where the table has it.

# %%
bank = against_clusters(table, (*BANK, "val_loss", "val_loss_own"))
Shown(svg(bank))

# %% [markdown]
# ## The closed loop

# %%
closed = against_clusters(table, OUTCOMES)
Shown(svg(closed))

# %% [markdown]
# ## The largest K beside the smallest
#
# The difference is taken within each student and seed, so that size and family cancel; the interval is a bootstrap
# over these pairs. With fewer than three K there is no curve to fit; with three the term `C K^-g` would go through any
# points, so that it is descriptive and not a law.

# %%
rng = np.random.default_rng(0)
keys = list(zip(*(table.column(name) for name in ("student", "size", "seed")), strict=True))
lines = ["| outcome | mean difference | 95 % interval | pairs |", "|---|---|---|---|"]
differences = {}
for name in OUTCOMES:
    if name not in table.columns:
        continue
    values = table.numeric(name)[0]
    of = {(key, k): value for key, k, value in zip(keys, clusters, values, strict=True)}
    pairs = [(of[key, counts[-1]], of[key, counts[0]]) for key in dict.fromkeys(keys) if (key, counts[0]) in of]
    gap = np.array([large - small for large, small in pairs])
    drawn = rng.choice(gap, (4000, len(gap))).mean(axis=1)
    differences[name] = (float(gap.mean()), *np.quantile(drawn, [0.025, 0.975]).tolist())
    value, low, high = differences[name]
    lines.append(f"| {name} | {value:+.3g} | {low:+.3g} to {high:+.3g} | {len(gap)} |")
Shown("\n".join(lines))
