"""From a path to arms: raw clips are curated, an imported corpus is taken as it is, and old hashes stay."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.experts.kept import check_kept, load_kept
from scaling.motion.augment import AugmentConfig
from scaling.motion.corpus import Corpus, CorpusConfig, build_corpus
from scaling.motion.curate import Limits
from scaling.motion.embed import EmbedConfig, embed_corpus
from scaling.motion.holdout import UnseenConfig, hold_out
from scaling.motion.read import read_motion, write_npz
from scaling.motion.segment import SegmentConfig
from scaling.motion.synthetic import corpus_motions
from scaling.record.hashing import content_hash
from scaling.record.override import override
from scaling.record.store import ArtifactStore
from scaling.study import corpus_stages, student_stages
from scaling.study.config import MotionsConfig, StudyConfig, quickstart
from scaling.study.sweep_stage import Keys

SHORT = CorpusConfig(SegmentConfig(2.0, 3.0, 6.0))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten takes of 6 s."""
    folder = tmp_path_factory.mktemp("clips")
    for motion in corpus_motions(60.0, 0, take_seconds=6.0):
        write_npz(motion, folder / f"{motion.name}.npz")
    return folder


def study(path: Path, **motions: object) -> StudyConfig:
    return StudyConfig(
        motions=MotionsConfig(path=str(path), **motions),  # type: ignore[arg-type]
        corpus=SHORT,
        clusters=(2,),
        arms=(0.25, 0.5, 1.0),
    )


def built(config: StudyConfig, store: ArtifactStore) -> Corpus:
    return Corpus.load(corpus_stages.corpus_stage(store, config).path)


def test_raw_clips_are_curated_and_copies_left_out(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in clips.glob("*.npz"):
        (folder / path.name).symlink_to(path)
    first = read_motion(sorted(clips.glob("*.npz"))[0])
    write_npz(replace(first, qpos=first.qpos[20:], name="again"), folder / "again.npz")
    write_npz(replace(first, qpos=first.qpos + np.eye(36)[2], name="flying"), folder / "flying.npz")
    store = ArtifactStore(tmp_path / "store")
    curated, raw = built(study(folder, curate=True), store), built(study(folder), store)
    assert {"again", "flying"} <= set(raw.takes)
    assert set(curated.takes) == set(raw.takes) - {"again", "flying"}
    assert "its feet float" in curated.refused[str(folder / "flying.npz")]
    assert quickstart(str(folder)).motions.curate
    assert not quickstart().motions.curate


def test_a_corpus_is_keyed_by_every_file_and_by_its_rate(tmp_path: Path) -> None:
    for number, folder in enumerate(("one", "two")):
        (tmp_path / "clips" / folder).mkdir(parents=True)
        motion = corpus_motions(12.0, number, take_seconds=6.0)[0]
        columns = motion.qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]
        np.savetxt(tmp_path / "clips" / folder / "walk.csv", columns, delimiter=",")
    keys = Keys()

    def key() -> str:
        return corpus_stages.corpus_stage(keys, study(tmp_path / "clips")).hash  # type: ignore[arg-type]

    found = [key()]
    for folder in ("one", "two"):
        file = tmp_path / "clips" / folder / "walk.csv"
        file.write_text(file.read_text().replace("\n", "\n\n", 1))
        found.append(key())
    (tmp_path / "clips" / "MANIFEST.tsv").write_text("file\thz\none/walk.csv\t60\ntwo/walk.csv\t60\n")
    found.append(key())
    assert len(set(found)) == len(found)
    shutil.move(tmp_path / "clips", tmp_path / "elsewhere")
    moved = corpus_stages.corpus_stage(keys, study(tmp_path / "elsewhere")).hash  # type: ignore[arg-type]
    assert moved == found[-1]


def test_thresholds_of_a_study_can_be_set_are_kept_and_make_another_corpus(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert override(StudyConfig(), "motions.path", str(clips)).motions.curate
    store = ArtifactStore(tmp_path)
    base = study(clips, curate=True)
    lax = override(base, "motions.curation.limits.foot_slide_m_s", ".9")
    artifact = corpus_stages.corpus_stage(store, lax)
    assert Corpus.load(artifact.path).config["curation"]["limits"]["foot_slide_m_s"] == 0.9
    before, named = corpus_stages.corpus_stage(Keys(), base).hash, content_hash(base.motions)  # type: ignore[arg-type]
    assert before != artifact.hash
    with pytest.raises(InputError, match="foot_slide_m_s"):
        override(base, "motions.curation.limits.foot_slid", "1")
    other_default = replace(base.motions.curation, limits=Limits(foot_slide_m_s=0.7))
    field = MotionsConfig.__dataclass_fields__["curation"]
    monkeypatch.setattr(field, "metadata", dict.fromkeys(field.metadata, other_default))
    changed = replace(base, motions=replace(base.motions, curation=other_default))
    assert content_hash(changed.motions) == named
    assert corpus_stages.corpus_stage(Keys(), changed).hash != before  # type: ignore[arg-type]


def test_an_imported_corpus_is_taken_with_its_splits(clips: Path, tmp_path: Path) -> None:
    motions = [read_motion(path) for path in sorted(clips.glob("*.npz"))]
    imported = build_corpus(motions, replace(SHORT, seed=3))
    folder = imported.save(tmp_path / "corpus")
    store = ArtifactStore(tmp_path / "store")
    for curate in (False, True):
        assert built(study(folder, curate=curate), store).content_hash == imported.content_hash
    assert imported.splits != build_corpus(motions, SHORT).splits
    more = built(study(folder, augment=AugmentConfig(mirror=True)), store)
    assert more.augmented_frames() == more.frames(more.indices("train"))
    with pytest.raises(InputError, match="name the unseen families when you import it"):
        corpus_stages.corpus_stage(store, study(folder, unseen=UnseenConfig(names=("turn",))))


def test_arms_follow_the_selection_and_keep_their_nesting(clips: Path, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    config = study(clips, augment=AugmentConfig(mirror=True), unseen=UnseenConfig(names=("squat",)))
    artifact = corpus_stages.corpus_stage(store, config)
    corpus = Corpus.load(artifact.path)
    assert {corpus.families[index] for index in corpus.indices("test_family")} == {"squat"}
    embedding = corpus_stages.embedding_stage(store, artifact)
    strata = corpus_stages.load_clusters(corpus_stages.cluster_stage(store, artifact, embedding, 2, 0))
    assert strata.features is not None
    assert len(strata.features) == len(corpus)
    assert len(strata.report["names"]) == 2
    chosen = {}
    for selection in ("stratified", "random", "farthest", "complex"):
        arms = student_stages.arms_of(replace(config, selection=selection), corpus, strata)
        smaller: set[int] = set()
        for arm in arms.values():
            assert smaller < set(arm.tolist())
            smaller = set(arm.tolist())
            assert corpus.augmented_frames(arm) == corpus.frames(arm)
        chosen[selection] = tuple(arms[0.5])
    assert len(set(chosen.values())) > 1


def test_one_embedding_serves_every_cluster_count(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path / "store")
    artifact = corpus_stages.corpus_stage(store, study(clips))
    calls: list[int] = []

    def counted(corpus: Corpus, config: EmbedConfig | None = None) -> np.ndarray:
        calls.append(len(corpus))
        return embed_corpus(corpus, config)

    monkeypatch.setattr(corpus_stages, "embed_corpus", counted)
    for k in (2, 3):
        embedding = corpus_stages.embedding_stage(store, artifact)
        clusters = corpus_stages.load_clusters(corpus_stages.cluster_stage(store, artifact, embedding, k, 0))
        assert clusters.report["clusters"] == k
    assert calls == [len(Corpus.load(artifact.path))]
    assert embedding.hash != corpus_stages.embedding_stage(Keys(), artifact, EmbedConfig("periodic")).hash


def test_a_held_out_family_is_played_and_without_one_nothing_is(clips: Path, tmp_path: Path) -> None:
    assert corpus_stages.played_splits(study(clips)) == ("val", "test")
    held = study(clips, unseen=UnseenConfig(names=("turn",)))
    assert corpus_stages.played_splits(held) == ("val", "test", "test_family")
    narrow = replace(held, closed_loop=replace(held.closed_loop, splits=("val",)))
    assert corpus_stages.played_splits(narrow) == ("val",)
    motions = [read_motion(path) for path in sorted(clips.glob("*.npz"))]
    plain = build_corpus(motions, SHORT)
    imported = hold_out(plain, UnseenConfig(names=("turn",)), SHORT).save(tmp_path / "held")
    assert corpus_stages.played_splits(study(imported)) == ("val", "test", "test_family")
    assert corpus_stages.played_splits(study(plain.save(tmp_path / "plain"))) == ("val", "test")


def test_what_was_added_changes_no_hash_until_it_is_asked_for() -> None:
    config = StudyConfig()
    for change in (
        {"selection": "farthest"},
        {"embed": EmbedConfig("periodic")},
        {"motions": replace(config.motions, augment=AugmentConfig(mirror=True))},
        {"motions": replace(config.motions, unseen=UnseenConfig(names=("turn",)))},
        {"motions": replace(config.motions, curate=True)},
    ):
        assert content_hash(replace(config, **change)) != content_hash(config)  # type: ignore[arg-type]
    # The hash of fresh motions before any of these fields was there.
    assert content_hash(MotionsConfig()) == "57260ca78a8fff83"
    assert student_stages.selection_key(config) == {}
    with pytest.raises(ValueError, match="selection 'best'"):
        StudyConfig(selection="best")  # type: ignore[arg-type]


def test_clips_given_to_a_kept_bank_become_the_corpus_that_it_learned(shared: Path, tmp_path: Path) -> None:
    """Curated or not as they were for it, or they would be other segments than those of the bank."""
    bank = Path(__file__).parents[2] / "experiments/banks/g1_moves"
    config = quickstart(str(shared / "motions/g1_29dof/g1_moves"), bank=str(bank))
    kept = load_kept(bank)
    assert config.motions.curate == kept.config["motions"]["curate"]
    check_kept(bank, kept, built(config, ArtifactStore(tmp_path / "as it was")))
    other = replace(config, motions=replace(config.motions, curate=not config.motions.curate), bank=None)
    with pytest.raises(InputError):
        check_kept(bank, kept, built(other, ArtifactStore(tmp_path / "otherwise")))
