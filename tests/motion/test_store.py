"""The store: what goes in comes out, verified; every damage is one sentence; amounts and arms follow the origins."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from scaling.errors import InputError
from scaling.motion.augment import AugmentConfig, augment
from scaling.motion.corpus import FRACTIONS, Corpus, build_corpus, corpus_file, is_corpus, nested_arms
from scaling.motion.read import read_motion
from scaling.motion.store import shards
from scaling.motion.store.export import Provenance, read_labels, store_of, write_corpus
from scaling.motion.store.index import ClipRow
from scaling.motion.store.memory_map import MappedFrames
from scaling.motion.store.shards import StoreConfig, cut_evenly
from scaling.motion.store.store import Store, open_store, set_clusters, verify_store, write_store
from scaling.motion.synthetic import corpus_motions
from scaling.robot.g1 import NQ

SMALL = StoreConfig(frames_per_record=64, shard_bytes=400 * 144)


def clips(count: int = 6, seed: int = 0) -> Iterator[tuple[ClipRow, np.ndarray]]:
    """Noise of 40, 80, ... frames; every third clip is of `val`."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        qpos = rng.standard_normal((40 * (number + 1), NQ)).astype(np.float32)
        yield ClipRow(f"c{number}", split="val" if number % 3 == 2 else "train", source=f"{number}.csv"), qpos


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", clips(), SMALL)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Generated takes, each training segment with a mirrored and a turned copy."""
    plain = build_corpus(corpus_motions(120.0, 0, take_seconds=8.0))
    return augment(plain, AugmentConfig(speeds=(1.0,), mirror=True, headings=0))


@pytest.mark.parametrize("frames", [1, 63, 64, 65, 127, 128, 129, 200, 1000, 1001])
@pytest.mark.parametrize("most", [64, 256, 512])
def test_chunks_cover_a_clip_in_equal_parts(frames: int, most: int) -> None:
    pieces = cut_evenly(frames, most)
    assert [begin for begin, _ in pieces] == [sum(size for _, size in pieces[:n]) for n in range(len(pieces))]
    assert sum(size for _, size in pieces) == frames
    sizes = [size for _, size in pieces]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(pieces) == 1 or min(sizes) >= most // 2


def test_what_goes_in_comes_out(store: Store) -> None:
    whole = np.concatenate([qpos for _, qpos in clips()])
    np.testing.assert_array_equal(np.concatenate(list(store.stream())), whole)
    assert len(store.shards) > 1
    assert store.frames == len(whole)
    again = open_store(store.folder)
    np.testing.assert_array_equal(again.records.clip_frames, [40, 80, 120, 160, 200, 240])
    np.testing.assert_array_equal(again.records.clip_start, [0, 40, 120, 240, 400, 600])
    assert again.texts("source") == [f"{number}.csv" for number in range(6)]


def test_the_index_has_a_row_a_record_with_its_place_and_hash(store: Store) -> None:
    table = parquet.read_table(store.folder / "index.parquet")
    wanted = "clip take recording family origin source licence subject split cluster quality rate_hz"
    assert table.column_names == [*wanted.split(), "begin", "frames", "shard", "record", "sha256"]
    qpos = {row.clip: frames for row, frames in clips()}
    places = set()
    for row in table.to_pylist():
        chunk = qpos[row["clip"]][row["begin"] : row["begin"] + row["frames"]]
        assert hashlib.sha256(chunk.tobytes()).digest() == row["sha256"]
        places.add((row["shard"], row["record"]))
    assert places == {(s, r) for s, shard in enumerate(store.shards) for r in range(shard.records)}


def test_the_same_clips_have_the_same_hash_and_others_not(store: Store, tmp_path: Path) -> None:
    assert write_store(tmp_path / "again", clips(), SMALL).hash == store.hash
    assert write_store(tmp_path / "other", clips(seed=1), SMALL).hash != store.hash
    moved = ((replace(row, split="test"), qpos) for row, qpos in clips())
    assert write_store(tmp_path / "moved", moved, SMALL).hash != store.hash


def _cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def test_a_shortened_or_missing_shard_is_one_sentence(store: Store) -> None:
    shard = store.folder / store.shards[1].name
    _cut(shard, 1000)
    with pytest.raises(InputError, match=r"qpos-00001\.array_record: 1000 bytes where \d+ were written") as caught:
        open_store(store.folder)
    assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(InputError, match=r"qpos-00001\.array_record: this shard of the store is missing; copy"):
        open_store(store.folder)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_flipped_bit_in_a_shard_is_found(store: Store, place: float) -> None:
    shard = store.folder / store.shards[0].name
    data = bytearray(shard.read_bytes())
    at = data.index(next(clips())[1].tobytes()[:64]) + int(place * 64 * 144)
    data[at] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"copy the store again|is not what its SHA-256 says"):
        verify_store(open_store(store.folder))


def test_a_shard_of_another_store_is_found_by_its_hashes(store: Store, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", clips(seed=1), SMALL)
    name = store.shards[0].name
    (store.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(InputError, match="record 0 is not what its SHA-256 says"):
        verify_store(open_store(store.folder))


def test_a_damaged_index_or_manifest_is_one_sentence(store: Store, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", clips(5), SMALL)
    (other.folder / "index.parquet").write_bytes((store.folder / "index.parquet").read_bytes())
    with pytest.raises(InputError, match="the index does not fit the shards"):
        _ = open_store(other.folder).records
    _cut(store.folder / "index.parquet", 500)
    with pytest.raises(InputError, match="not a readable index"):
        _ = open_store(store.folder).records
    _cut(store.folder / "store.json", 50)
    with pytest.raises(InputError, match="not a readable store"):
        open_store(store.folder)


def test_a_writer_that_dies_leaves_what_was_there(store: Store, tmp_path: Path) -> None:
    def dying() -> Iterator[tuple[ClipRow, np.ndarray]]:
        yield next(clips())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(store.folder, dying(), SMALL)
    verify_store(open_store(store.folder))
    assert open_store(store.folder).hash == store.hash
    assert not list(store.folder.glob(".*"))
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "new", dying(), SMALL)
    assert not (tmp_path / "new").exists()


def test_a_store_takes_the_place_of_a_longer_one_and_of_what_a_killed_writer_left(store: Store) -> None:
    (store.folder / ".partial-dead").mkdir()
    (store.folder / ".partial-dead" / "qpos-00000.array_record").touch()
    MappedFrames(store)
    short = write_store(store.folder, clips(2), SMALL)
    assert len(short.shards) < len(store.shards)
    verify_store(short)
    assert len(MappedFrames(short).qpos) == short.frames
    kept = {path.name for path in store.folder.iterdir()}
    assert kept == {"store.json", "index.parquet", "frames.f32", "frames.json", *(shard.name for shard in short.shards)}


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, path: str, options: str) -> None:
            self.path = path

        def write(self, data: bytes) -> None:
            raise RuntimeError("RESOURCE_EXHAUSTED: write failed: No space left on device")

        def close(self) -> None:
            Path(self.path).touch()

    monkeypatch.setattr(shards, "ArrayRecordWriter", Full)
    with pytest.raises(InputError, match="the disk is full while writing"):
        write_store(tmp_path, clips())


def test_wrong_columns_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"odd: qpos has shape \(9, 35\)"):
        write_store(tmp_path, [(ClipRow("odd"), np.zeros((9, 35)))])
    with pytest.raises(ValueError, match="63"):
        StoreConfig(frames_per_record=63)
    with pytest.raises(ValueError, match="shard_bytes 10"):
        StoreConfig(shard_bytes=10)


def test_a_corpus_written_out_keeps_its_table(corpus: Corpus, tmp_path: Path) -> None:
    takes = {corpus.takes[0]: Provenance("a/b.csv", 0.5)}
    write_corpus(tmp_path / "s", corpus.segments(), {}, {}, takes)
    store = store_of(tmp_path / "s")
    np.testing.assert_array_equal(np.concatenate(list(store.stream())), corpus.qpos)
    for column, values in (("clip", corpus.names), ("split", corpus.splits), ("origin", corpus.origins)):
        assert store.texts(column) == list(values)
    assert store.texts("source")[0] == "a/b.csv"
    assert set(store.clusters) == {-1}
    report = store.report()
    assert report["unique_frames"] == corpus.frames()
    assert report["augmented_frames"] == corpus.augmented_frames() > 0
    assert report["unique_hours"] == pytest.approx(corpus.hours())
    train = corpus.indices("train")
    assert report["splits"]["train"]["unique_frames"] == corpus.frames(train)
    assert report["splits"]["train"]["augmented_frames"] == corpus.augmented_frames(train)
    assert sum(part["clips"] for part in report["licences"].values()) == len(corpus)


def test_arms_are_those_of_the_corpus_and_copies_follow_their_origin(corpus: Corpus, tmp_path: Path) -> None:
    labels = np.arange(len(corpus)) % 5
    named = {name: int(label) for name, label in zip(corpus.names, labels, strict=True)}
    store = store_of(corpus.save(tmp_path / "s"))
    with pytest.raises(InputError, match="clips without a cluster cannot be stratified"):
        store.arms()
    labelled = set_clusters(store, named)
    np.testing.assert_array_equal(labelled.clusters, labels)
    assert labelled.hash == store.hash
    arms, wanted = labelled.arms(seed=3), nested_arms(corpus, labels, seed=3)
    before: set[int] = set()
    for fraction in FRACTIONS:
        np.testing.assert_array_equal(arms[fraction], wanted[fraction])
        assert before < set(arms[fraction].tolist())
        before = set(arms[fraction].tolist())
        amount = store.amount(arms[fraction])
        assert amount["unique_frames"] == corpus.frames(arms[fraction])
        assert amount["augmented_frames"] == corpus.augmented_frames(arms[fraction])
    with pytest.raises(InputError, match="the labels have none for"):
        set_clusters(store, {corpus.names[0]: 1})


def test_a_corpus_written_again_replaces_the_one_before(corpus: Corpus, tmp_path: Path) -> None:
    folder = corpus.save(tmp_path / "c")
    first = store_of(folder)
    assert store_of(first.folder) == first
    assert first.of == corpus.content_hash
    replace(corpus, licences=("other",) * len(corpus)).save(folder)
    assert store_of(folder).of != first.of
    assert set(Corpus.load(folder).licences) == {"other"}


def test_a_store_alone_is_a_corpus_whose_frames_are_mapped(corpus: Corpus, tmp_path: Path) -> None:
    store = store_of(corpus.save(tmp_path / "c"))
    for folder in (store.folder, tmp_path / "c"):
        assert is_corpus(folder)
        mapped = Corpus.load(folder)
        assert mapped.content_hash == corpus.content_hash == store.of
        assert not mapped.qpos.flags.writeable
    assert not is_corpus(tmp_path)
    stands_for_it = corpus_file(tmp_path / "c")
    assert stands_for_it is not None
    before = stands_for_it.read_bytes()
    set_clusters(store, dict.fromkeys(corpus.names, 0))
    assert stands_for_it.read_bytes() == before, "labels and flat files do not make it another corpus"


def test_labels_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    with pytest.raises(InputError, match="no labels here"):
        read_labels(path)
    path.write_text('{"sizes": [1]}')
    with pytest.raises(InputError, match="no labels here"):
        read_labels(path)
    path.write_text('{"labels": {"a": 1}}')
    assert read_labels(path) == {"a": 1}


def test_a_real_take_in_the_store(shared: Path, tmp_path: Path) -> None:
    motion = read_motion(shared / "motions/formats/csv36_xyzw_30hz/walk1_subject1.csv")
    corpus = build_corpus([motion])
    takes = {motion.name: Provenance(motion.source, 1.0)}
    write_corpus(tmp_path / "s", corpus.segments(), {}, {}, takes)
    store = store_of(tmp_path / "s")
    np.testing.assert_array_equal(np.concatenate(list(store.stream())), corpus.qpos)
    frames = parquet.read_table(store.folder / "index.parquet")["frames"].to_numpy()
    assert frames.min() >= 64
    assert frames.max() <= 512
    assert set(store.texts("subject")) == {"subject1"}
    assert set(store.texts("recording")) == {"walk1"}
