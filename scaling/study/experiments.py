"""Experiments by name: single runs that `scaling run` trains, sharing every stage with the studies they come from."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.motion.corpus import Corpus
from scaling.record.override import override
from scaling.record.store import Artifact, ArtifactStore
from scaling.students.config import FAMILIES
from scaling.study import corpus_stages, judge, stages, student_stages, tuned_stages
from scaling.study.config import StudyConfig, quickstart
from scaling.study.results import Finished, record_run, rows_of_group

_SIZES = ("0.05M", "0.2M")


def names() -> list[str]:
    """Every experiment: one student on all training data of the quickstart's study."""
    return [f"{family}-{size}" for family in FAMILIES for size in _SIZES]


def experiment(name: str) -> StudyConfig:
    """The study of one run. Raises InputError, with the nearest names, for an unknown one."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.3) or names()
        raise InputError(f"no experiment is called {name!r}; did you mean {' or '.join(near)}?")
    family, size = name.split("-", 1)
    return replace(quickstart(), name=name, clusters=(4,), families=(family,), sizes=(size,), arms=(1.0,), seeds=1)


def run_experiment(
    name: str, overrides: Sequence[tuple[str, Any]] | dict[str, Any] = (), out: Path | str = "runs"
) -> dict[str, Any]:
    """Trains what the run needs that is not in the store yet; the row, also kept as `row.json` beside the run's log.

    Of a run that is fine-tuned both rows are kept; the one after it is returned, with the closed loop before it.
    """
    config = experiment(name)
    pairs = overrides.items() if isinstance(overrides, dict) else overrides
    for path, value in pairs:
        config = override(config, path, value)
    out = Path(out).resolve()
    store = ArtifactStore(out / "store")
    corpus = corpus_stages.corpus_stage(store, config)
    teachings = [stages.teaching_stages(store, config, corpus, k) for k in config.clusters]
    held, strata = Corpus.load(corpus.path), corpus_stages.load_clusters(teachings[0].clusters)
    runs = student_stages.runs_of(config, held, strata)
    family, size = config.families[0], config.sizes[0]
    pretrained = student_stages.pretrain_stage(store, config, corpus, family, size)
    group = student_stages.students_stage(store, config, corpus, teachings, family, size, pretrained)

    def finished(group: Artifact, runs: Sequence[student_stages.Run]) -> Finished:
        splits = corpus_stages.played_splits(config)
        played = judge.load_closed_loop(
            {split: judge.closed_loop_stage(store, config, corpus, group, runs, split) for split in splits}
        )
        return Finished(family, size, group, runs, student_stages.load_students(group, runs), played)

    def recorded(row: dict[str, Any], done: Finished) -> dict[str, Any]:
        row = row | done.saved(done.runs[0])
        record_run(out / "runs" / f"{name}-{row['config_hash']}", row, done.students[0])
        return row

    distilled = finished(group, runs)
    row = recorded(rows_of_group(config, distilled, teachings)[0], distilled)
    after = tuned_stages.tuned_runs(config, held, strata)
    if after:
        tuned = tuned_stages.tuned_stage(store, config, corpus, group, teachings[0].valset, after)
        changed = finished(tuned, after)
        now = tuned_stages.tuned_rows(config, changed, teachings)[0]
        row = recorded(tuned_stages.beside_before(now, row, config.closed_loop.protocol), changed)
    return row
