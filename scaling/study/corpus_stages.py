"""The first stages of a study: motions become a corpus, and its segments clusters."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from scaling.errors import InputError
from scaling.experts.kept import check_kept, load_kept, split_as_kept
from scaling.motion.augment import augmented, settings
from scaling.motion.clip import Motion
from scaling.motion.cluster import kmeans
from scaling.motion.corpus import Corpus, build_corpus, corpus_file, is_corpus
from scaling.motion.describe import cluster_names
from scaling.motion.embed import EmbedConfig, embed_corpus
from scaling.motion.gather import GatherConfig, gather
from scaling.motion.holdout import UnseenConfig, hold_out
from scaling.motion.naming import rate_of
from scaling.motion.read import motion_paths, read_motions
from scaling.motion.segment import TEST_FAMILY
from scaling.motion.store.export import store_of as shards_of
from scaling.motion.store.export import write_corpus
from scaling.motion.synthetic import corpus_motions
from scaling.record.files import read_json, write_json
from scaling.record.hashing import content_hash, file_hash
from scaling.record.progress import Progress, say
from scaling.record.store import Artifact, ArtifactStore
from scaling.study.config import MotionsConfig, StudyConfig
from scaling.tracking.reference import ClipStore, make_store

CORPUS_VERSION = 3
EMBEDDING_VERSION = 1
CLUSTER_VERSION = 3
_FEATURES = "features.npy"


def corpus_stage(store: ArtifactStore, config: StudyConfig) -> Artifact:
    """Clips, curated, cut, and split by recording, or a corpus that was imported; augmented where that is asked for.

    Files are keyed by content, by their path below what was given and by the rate that stands beside them; thresholds
    as they are in force, so that no older corpus stands for another default. With a kept bank the splits are those that
    it was trained with. Frames are written as they come, so that memory does not grow with them.
    """
    motions = config.motions
    inputs: dict[str, Any] = {}
    judged = GatherConfig(motions.curation, motions.curate)
    if motions.path is not None:
        inputs["files"] = _keyed_files(motions.path)
    kept = None if config.bank is None else load_kept(Path(config.bank))
    if kept is not None:
        inputs["bank"] = kept.content_hash
    key: dict[str, Any] = {"motions": replace(motions, path=None), "corpus": config.corpus}
    judges = motions.path is not None and motions.curate and not is_corpus(motions.path)
    if judges:
        key["curation"] = motions.curation

    def build(work: Path) -> None:
        with Progress("motions", 2) as progress:
            progress.update(0, message="reading" if motions.path else "generating")
            copies: list[list[str]] = []
            if motions.path is not None and is_corpus(motions.path):
                corpus = _imported(motions)
            else:
                clips, refused, copies = _clips(motions, judged, work)
                progress.update(1, message=f"{len(clips)} clips, cutting")
                corpus = hold_out(build_corpus(clips, config.corpus, work), motions.unseen, config.corpus)
                thresholds = judged.told() if judges else {}
                corpus = replace(corpus, refused=refused | corpus.refused, config=corpus.config | thresholds)
                for name, reason in corpus.refused.items():
                    say(f"left out {name}: {reason}")
            if kept is not None:
                corpus = split_as_kept(Path(str(config.bank)), kept, corpus)
            told = settings(corpus, motions.augment)
            corpus = write_corpus(work, augmented(corpus, motions.augment), corpus.refused, told, duplicates=copies)
            progress.update(2, message=f"{len(corpus)} segments, {corpus.hours() * 60:.1f} min")
        _check_splits(corpus, config)

    return store.stage("corpus", key, {"files": content_hash(inputs)}, CORPUS_VERSION, build)


def _keyed_files(given: str) -> list[tuple[str, str, float]]:
    """Of each file its path below what was given, its hash, and the rate (Hz) that its name or a manifest tells."""
    corpus_of = corpus_file(given)
    if corpus_of is not None:
        return [(corpus_of.name, file_hash(corpus_of), 0.0)]
    files = motion_paths(given)
    root = Path(given) if Path(given).is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    return sorted((file.relative_to(root).as_posix(), file_hash(file), rate_of(file).hz) for file in files)


def _imported(motions: MotionsConfig) -> Corpus:
    """A corpus that `scaling motions import` made, with the splits that it was given there."""
    if motions.unseen != UnseenConfig():
        raise InputError(
            f"{motions.path}: the splits of an imported corpus stand; name the unseen families when you import it"
        )
    return Corpus.load(str(motions.path))


def _clips(
    motions: MotionsConfig, judged: GatherConfig, work: Path
) -> tuple[list[Motion], dict[str, str], list[list[str]]]:
    """Clips, what was refused and why, and copies."""
    if motions.path is None:
        return corpus_motions(motions.synthetic_seconds, motions.seed, take_seconds=motions.take_seconds), {}, []
    if motions.curate:
        gathered = gather(motion_paths(motions.path), config=judged, scratch=work)
        for kept, *copies in gathered.duplicates:
            say(f"left out {', '.join(copies)}: the same motion as {kept}")
        return list(gathered.clips.values()), gathered.refused, gathered.duplicates
    found = read_motions(motions.path)
    return found.motions, found.refused, []


def played_splits(config: StudyConfig) -> tuple[str, ...]:
    """The splits of the closed loop that the study's corpus holds: `test_family` only where families are held out."""
    motions = config.motions
    held = motions.unseen != UnseenConfig()
    if motions.path is not None and is_corpus(motions.path):
        held = bool(shards_of(motions.path).where("split", TEST_FAMILY).any())
    return tuple(split for split in config.closed_loop.splits if split != TEST_FAMILY or held)


def _check_splits(corpus: Corpus, config: StudyConfig) -> None:
    for split in ("train", "val", "test"):
        if len(corpus.indices(split)) == 0:
            raise InputError(
                f"{config.motions.path or 'the generated motion'}: no recording is left for the {split} split; "
                "give at least three recordings"
            )
    needed = max(len(config.arms), max(config.clusters))
    if len(corpus.indices("train")) < needed:
        raise InputError(
            f"{config.motions.path or 'the generated motion'}: {len(corpus.indices('train'))} training segments are "
            f"too few for {len(config.arms)} arms and {max(config.clusters)} clusters; give at least {needed}"
        )


@dataclass(frozen=True)
class Clusters:
    """A clustering of all segments: the label of each, its report, and the embedding, which a kept one has not."""

    labels: Int[np.ndarray, "S"]
    report: dict[str, Any]
    features: Float[np.ndarray, "S F"] | None = None

    def experts(self, corpus: Corpus) -> list[Int[np.ndarray, "m"]]:
        """What each expert sees: its cluster's `train` and `val` segments (DESIGN 4.4)."""
        return self.of_split(corpus, "train", "val")

    def of_split(self, corpus: Corpus, *splits: str) -> list[Int[np.ndarray, "m"]]:
        """Each cluster's segments in these splits."""
        chosen = np.isin(np.array(corpus.splits), splits)
        return [np.flatnonzero((self.labels == k) & chosen) for k in range(self.report["clusters"])]


def embedding_stage(store: ArtifactStore, corpus: Artifact, embed: EmbedConfig | None = None) -> Artifact:
    """The embedding of every segment, one for all cluster counts; what is learned is learned from training segments."""
    embed = embed or EmbedConfig()

    def build(work: Path) -> None:
        np.save(work / _FEATURES, embed_corpus(Corpus.load(corpus.path), embed).astype(np.float32))

    key = embed if embed.kind == "periodic" else {"kind": embed.kind}
    return store.stage("embedding", key, {"corpus": corpus}, EMBEDDING_VERSION, build)


def kept_cluster_stage(store: ArtifactStore, corpus: Artifact, bank: str) -> Artifact:
    """The clustering of a kept bank. Raises InputError for one of other motions."""
    kept = load_kept(Path(bank))

    def build(work: Path) -> None:
        check_kept(Path(bank), kept, Corpus.load(corpus.path))
        write_json(work / "clusters.json", {"labels": kept.labels.tolist(), "report": kept.config["clustering"]})

    return store.stage("clusters", {"kept": kept.content_hash}, {"corpus": corpus}, CLUSTER_VERSION, build)


def cluster_stage(store: ArtifactStore, corpus: Artifact, embedding: Artifact, k: int, seed: int) -> Artifact:
    """K-means of the segments' embeddings, centres from training segments alone."""

    def build(work: Path) -> None:
        held = Corpus.load(corpus.path)
        features = np.load(embedding.path / _FEATURES)
        found = kmeans(features, k, seed, fit=held.indices("train"))
        report = found.report() | {"names": cluster_names(held, features, found)}
        np.save(work / _FEATURES, features)
        write_json(work / "clusters.json", {"labels": found.labels.tolist(), "report": report})

    inputs = {"corpus": corpus, "embedding": embedding}
    return store.stage("clusters", {"clusters": k, "seed": seed}, inputs, CLUSTER_VERSION, build)


def load_clusters(artifact: Artifact) -> Clusters:
    """The clustering of a finished stage."""
    data, features = read_json(artifact.path / "clusters.json"), artifact.path / _FEATURES
    kept = np.load(features) if features.is_file() else None
    return Clusters(np.array(data["labels"], np.int32), data["report"], kept)


def store_of(corpus: Corpus) -> ClipStore:
    """The corpus on the device."""
    return make_store(corpus.qpos, corpus.start, corpus.length)
