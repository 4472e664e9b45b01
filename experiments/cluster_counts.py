"""Do 128, 384 and 1024 clusters make sense of two hours of real motion with augmentation, and of generated motion?

    python experiments/cluster_counts.py                        # 36 minutes beside twenty other jobs on two cores
    python experiments/cluster_counts.py --corpora generated    # the generated motion alone, which needs no files

Every training segment is there at five paces (.90 to 1.10), and as its mirror image: ten rows each. Both embeddings;
every K from three seeds. Balance is the normalised entropy of the sizes, stability the mean adjusted Rand index between
seeds. Then, by the same yardstick, how diverse a quarter of the training segments is under each selection.

Expected: balance above .9 at every K; on the pool, stability that falls from 16 clusters to 128 and rises again to
1024, where a cluster is the five paces of one segment on one side. Result: `cluster_counts/RESULT.md`, with the figures
in JSON beside it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from scaling.bench.row import machine
from scaling.motion.augment import SPEEDS, AugmentConfig, augment
from scaling.motion.cluster import kmeans
from scaling.motion.corpus import Corpus, build_corpus, nested_arms
from scaling.motion.describe import Yardstick, cluster_names, complexities
from scaling.motion.embed import EmbedConfig, embed_corpus
from scaling.motion.gather import gather
from scaling.motion.paths import motion_paths
from scaling.motion.selection import SELECTIONS, selection_order
from scaling.motion.synthetic import corpus_motions
from scaling.record.files import write_json
from scaling.record.progress import say

OUT = Path(__file__).with_suffix("")
POOL = "../shared/motions/g1_29dof"
COUNTS = (16, 128, 384, 1024)
CORPORA = ("pool", "generated")
COPIES = AugmentConfig(speeds=SPEEDS, mirror=True)
QUARTER = 0.25


def corpus_of(name: str) -> Corpus:
    """The pool as `scaling motions import` would have it, or forty minutes of generated motion."""
    if name == "generated":
        return build_corpus(corpus_motions(2400.0, 0))
    return build_corpus(list(gather(motion_paths(POOL)).clips.values()))


def clusterings(name: str, unique: Corpus) -> list[dict[str, Any]]:
    """One row for each embedding and K."""
    corpus = augment(unique, COPIES)
    train = corpus.indices("train")
    rows = []
    for kind in ("spectral", "periodic"):
        began = time.monotonic()
        features = embed_corpus(corpus, EmbedConfig(kind))
        took = time.monotonic() - began
        diversity = vars(Yardstick(features[train]).measure(features[train]))
        for k in COUNTS:
            began = time.monotonic()
            found = kmeans(features, k, 0, fit=train)
            seconds = time.monotonic() - began
            say(f"{name}, {kind}, K = {k}: {seconds:.0f} s")
            report = found.report() | {"names": cluster_names(corpus, features, found)}
            together = _together(corpus, found.labels)
            told = {"corpus": name, "embedding": kind, "segments": len(train), "unique": len(unique.indices("train"))}
            rows.append(told | {"embed_s": took, "cluster_s": seconds, "together": together} | diversity | report)
    return rows


def _together(corpus: Corpus, labels: np.ndarray) -> float:
    """The share of copies that are in the cluster of their origin."""
    place = {name: index for index, name in enumerate(corpus.names)}
    copies = np.flatnonzero(~corpus.unique)
    return float(np.mean([labels[index] == labels[place[corpus.origins[index]]] for index in copies]))


def selections(name: str, corpus: Corpus) -> list[dict[str, Any]]:
    """One row for each selection: the quarter arm's diversity beside that of all training segments."""
    features = embed_corpus(corpus)
    train = corpus.unique_indices("train")
    ruler, effort = Yardstick(features[train]), complexities(corpus)
    labels = kmeans(features, 16, 0, fit=train).labels
    rows = [{"corpus": name, "selection": "all", "segments": len(train), **vars(ruler.measure(features[train]))}]
    rows[0]["complexity"] = float(effort[train].mean())
    for selection in SELECTIONS:
        order = selection_order(selection, labels[train], features[train], effort[train], 0)
        arm = nested_arms(corpus, labels, seed=0, order=order)[QUARTER]
        row = {"corpus": name, "selection": selection, "segments": len(arm), **vars(ruler.measure(features[arm]))}
        rows.append(row | {"complexity": float(effort[arm].mean())})
    return rows


def result(rows: list[dict[str, Any]], chosen: list[dict[str, Any]], command: str, where: str) -> str:
    """`RESULT.md`."""
    lines = [
        "# Cluster counts",
        f"`{command}` on {where}.",
        "",
        "Training segments at five paces and mirrored. *together*: copies in the cluster of their origin. *singles*: "
        "clusters of one. *between*: share of the variance between clusters. Seconds are for three seeds, on one "
        "thread, beside other work.",
        "",
        "| corpus | embedding | rows (unique) | K | balance | largest | singles | stability (ARI) | between | together "
        "| cluster s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['corpus']} | {r['embedding']} | {r['segments']} ({r['unique']}) | {r['clusters']} | {r['balance']:.3f} "
        f"| {100 * r['largest_share']:.1f} % | {r['singletons']} | {r['stability_ari']:.2f} | {r['between']:.2f} "
        f"| {100 * r['together']:.0f} % | {r['cluster_s']:.0f} |"
        for r in rows
    ]
    lines += ["", "Diversity of the training segments along 16 principal axes, and what embedding took:", ""]
    lines += ["| corpus | embedding | geometric std | log-volume | embed s |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['corpus']} | {r['embedding']} | {r['geometric_std']:.2f} | {r['log_volume']:.1f} | {r['embed_s']:.0f} |"
        for r in rows
        if r["clusters"] == COUNTS[0]
    ]
    lines += ["", "A quarter of the training frames by each selection (spectral, no copies):", ""]
    lines += [
        "| corpus | selection | segments | geometric std | log-volume | complexity |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['corpus']} | {r['selection']} | {r['segments']} | {r['geometric_std']:.2f} | {r['log_volume']:.1f} "
        f"| {r['complexity']:.2f} |"
        for r in chosen
    ]
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        names = next(r["names"] for r in rows if (r["corpus"], r["clusters"]) == (corpus, COUNTS[0]))
        lines += ["", f"The {COUNTS[0]} clusters of {corpus} (spectral), largest first:", ""]
        lines += [f"{place}. {name}" for place, name in enumerate(names, 1)]
    return "\n".join([lines[0], lines[1], READING, *lines[3:]]) + "\n"


READING = """
Reading: two hours of real motion bear 1024 clusters only because of the copies: at about twice as many clusters as
unique segments a cluster is the five paces of one segment on one side (4 of 9 copies are with their origin), which is
why it is stable. 128 clusters are families that the seeds do not agree on. The 168 unique segments of generated motion
do not bear 1024: over half of those clusters hold one row. A quarter chosen as far apart as can be is more diverse than
the whole; chance and strata are about as diverse or less; weighting by complexity raises complexity.
"""


def main() -> None:
    """Every corpus that is asked for; what was found before is kept and told again."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--corpora", nargs="*", choices=CORPORA, default=CORPORA, help="none: tell again")
    given = parser.parse_args()
    for name in given.corpora:
        corpus = corpus_of(name)
        found = {"clusterings": clusterings(name, corpus), "selections": selections(name, corpus)}
        write_json(OUT / f"{name}.json", found | {"machine": machine()})
    kept = [json.loads(path.read_text()) for path in sorted(OUT.glob("*.json"), reverse=True)]
    rows, chosen = ([row for one in kept for row in one[key]] for key in ("clusterings", "selections"))
    where = " and ".join(dict.fromkeys(str(one["machine"]) for one in kept))
    (OUT / "RESULT.md").write_text(result(rows, chosen, "python experiments/cluster_counts.py", where))


if __name__ == "__main__":
    main()
