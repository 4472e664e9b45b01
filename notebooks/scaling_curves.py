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
# # Scaling curves of a study
#
# A table of runs in, curves and fit cards out. Everything below is `scaling.laws`, which knows nothing of robots: the
# notebook only says which columns of the table are the loss and the axes.
#
# Set `TABLE` (here, or in the environment) to a `runs.csv`; left empty it takes the newest one below `runs/`, where
# `scaling quickstart` puts it.

# %%
import os
from pathlib import Path

import numpy as np

from scaling.laws import card_markdown, fit_groups, read_table
from scaling.laws.figures import Shown, loss_curves, svg

TABLE = os.environ.get("TABLE", "")
LOSS, AXES, STUDENT = "val_loss", ("unique_frames", "hours"), ("student", "size")

# %% [markdown]
# ## The table
#
# One row per run. A study changes the teachers only at its full arm, so the curves are those of its most frequent
# cluster count; runs that did not finish are left out.

# %%
runs = Path("runs") if Path("runs").is_dir() else Path("../runs")  # started in the checkout, or in notebooks/
tables = [Path(TABLE)] if TABLE else [*runs.rglob("runs.csv")]
if not tables:
    raise SystemExit("no runs.csv below runs/: run scaling quickstart first, or set TABLE")
path = max(tables, key=lambda file: file.stat().st_mtime)
table = read_table(path)
if "status" in table.columns:
    table = table.select(table.column("status") == "finished")
if "clusters" in table.columns:
    counts, frequency = np.unique(table.column("clusters"), return_counts=True)
    table = table.select(table.column("clusters") == counts[np.argmax(frequency)])
print(f"{path}: {len(table)} runs")

# %% [markdown]
# ## The curves
#
# Points are runs. A curve is fitted without the hollow points, which it then has to predict; it is dashed beyond the
# fitted rows. A law that the table does not support is dotted, and the legend says so.

# %%
laws, refused = {}, {}
for axis in AXES:
    found, failed = fit_groups(table, by=STUDENT, loss=LOSS, data=axis, run="run", resamples=500)
    laws |= {(axis, group): law for group, law in found.items()}
    refused |= {(axis, group): reason for group, reason in failed.items()}
figure = loss_curves(table, loss=LOSS, x=AXES, by=STUDENT, laws=laws)
Shown(svg(figure))

# %% [markdown]
# ## What the table supports

# %%
sentences = [f"- {' '.join(map(str, group))}, {axis}: {law.verdict}" for (axis, group), law in laws.items()]
sentences += [f"- {' '.join(map(str, group))}, {axis}: no law ({why})" for (axis, group), why in refused.items()]
Shown("\n".join(sentences))

# %% [markdown]
# ## The fit cards

# %%
cards = [card_markdown(law, " ".join(map(str, group))) for (axis, group), law in laws.items() if axis == AXES[0]]
Shown("\n\n".join(cards))
