"""The stages that judge finished students: the closed loop on each split, and the loss against a reference bank."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.distill.reference import reference_losses
from scaling.distill.valset import ValSet
from scaling.errors import InputError
from scaling.motion.corpus import Corpus
from scaling.record.files import read_json, write_json
from scaling.record.store import Artifact, ArtifactStore
from scaling.study.closed_loop import merged, play_students
from scaling.study.config import ClosedLoopConfig, StudyConfig
from scaling.study.corpus_stages import store_of
from scaling.study.once import Once
from scaling.study.student_stages import Run, load_students

CLOSED_LOOP_VERSION = 3
REFERENCE_VERSION = 1
_CLOSED_LOOP, _REFERENCE = "closed_loop.json", "losses.json"
_APART = 1_000_003  # between the seed of a study and that of its reference bank


def closed_loop_stage(
    store: ArtifactStore, config: StudyConfig, corpus: Artifact, students: Artifact, runs: Sequence[Run], split: str
) -> Artifact:
    """Every student of a group on the same starts of a split, in converged C MuJoCo, at `assist` and at 0."""
    key = {"closed_loop": _each_split(config), "assist": config.assist, "split": split, "seed": config.seed}

    def build(work: Path) -> None:
        held = Corpus.load(corpus.path)
        trained, clips = load_students(students, runs), held.indices(split)
        if not len(clips):
            raise InputError(f"{split}: the corpus holds no segment of this split, so there is nothing to play")
        columns = play_students(trained, store_of(held), clips, config.assist, config.closed_loop)
        write_json(work / _CLOSED_LOOP, columns)

    return store.stage("closed_loop", key, {"corpus": corpus, "students": students}, CLOSED_LOOP_VERSION, build)


_EACH: Once[ClosedLoopConfig] = Once()


def _each_split(config: StudyConfig) -> ClosedLoopConfig:
    """How any split is played, whichever others are."""
    given = config.closed_loop
    return _EACH.get((given,), lambda: replace(given, splits=ClosedLoopConfig().splits))


def load_closed_loop(artifacts: Mapping[str, Artifact], reference: Artifact | None = None) -> list[dict[str, Any]]:
    """The columns of a finished group from each split and the reference bank, if any, in the order of its runs."""
    columns = merged({split: read_json(artifact.path / _CLOSED_LOOP) for split, artifact in artifacts.items()})
    if reference is not None:
        losses = read_json(reference.path / _REFERENCE)
        columns = [row | {"val_loss_reference": loss} for row, loss in zip(columns, losses, strict=True)]
    return columns


def reference_study(config: StudyConfig) -> StudyConfig:
    """The study whose first clustering and bank are the reference: the same, seeded independently."""
    return replace(config, seed=config.seed + _APART, reference=False)


def reference_stage(
    store: ArtifactStore, corpus: Artifact, valset: Artifact, students: Artifact, runs: Sequence[Run]
) -> Artifact:
    """Every student's loss on the reference bank's validation set."""

    def build(work: Path) -> None:
        losses = reference_losses(load_students(students, runs), ValSet.load(valset.path))
        write_json(work / _REFERENCE, losses.tolist())

    inputs = {"corpus": corpus, "valset": valset, "students": students}
    return store.stage("reference", {}, inputs, REFERENCE_VERSION, build)
