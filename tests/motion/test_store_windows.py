"""Windows: within their clip, in the same order for any number of hosts, resumed anywhere, mixed by weight."""

from pathlib import Path

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.motion.store.index import ClipRow
from scaling.motion.store.memory_map import MappedFrames
from scaling.motion.store.pipeline import ShardFrames, WindowSource, batches
from scaling.motion.store.shards import StoreConfig
from scaling.motion.store.shuffle import permuted
from scaling.motion.store.store import Store, set_clusters, write_store
from scaling.motion.store.windows import WindowConfig, Windows, windows_of
from scaling.robot.g1 import NQ

LENGTHS = (31, 32, 33, 100, 50, 64, 200, 90)
START = np.cumsum([0, *LENGTHS[:-1]])
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2])


def write(folder: Path, seed: int = 0) -> Store:
    """Frames that say which they are: column 0 counts them, the rest is noise. The last clip is of `val`."""
    noise = np.random.default_rng(seed).standard_normal((sum(LENGTHS), NQ)).astype(np.float32)
    noise[:, 0] = np.arange(len(noise))
    clips = [
        (
            ClipRow(f"c{n}", split="val" if n == 7 else "train", cluster=int(LABELS[n])),
            noise[begin : begin + LENGTHS[n]],
        )
        for n, begin in enumerate(START)
    ]
    return write_store(folder, clips, StoreConfig(frames_per_record=64, shard_bytes=200 * 144))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write(tmp_path / "store")


def windows(**config: object) -> Windows:
    return Windows(START, np.array(LENGTHS), LABELS, WindowConfig(**config))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 31, 32, 33, 1000])
def test_permutations_hold_every_number_once(size: int) -> None:
    place, many = np.arange(size, dtype=np.uint64), np.full(size, size, np.uint64)
    seen = set()
    for key in range(20):
        found = permuted(place, many, np.full(size, key, np.uint64))
        assert sorted(found.tolist()) == list(range(size))
        seen.add(tuple(found.tolist()))
    assert len(seen) > min(size, 18) // 2
    with pytest.raises(ValueError, match="below the size"):
        permuted(many, many, many)


def test_permutations_are_as_random_as_drawn_ones() -> None:
    size, keys = 10, 4000
    many = np.full(keys, size, np.uint64)
    counts = np.stack(
        [
            np.bincount(permuted(np.full(keys, place, np.uint64), many, np.arange(keys, dtype=np.uint64)).astype(int))
            for place in range(size)
        ]
    )
    expected = keys / size
    # 81 degrees of freedom: chi-squared stays under 130 in all but 1 of 2000 draws.
    assert ((counts - expected) ** 2 / expected).sum() < 130


def test_no_window_crosses_the_end_of_a_clip() -> None:
    order = windows(batch=64)
    for step in range(20):
        first = order.first_frames(step)
        clip = np.searchsorted(START, first, side="right") - 1
        assert (first + 32 <= START[clip] + np.array(LENGTHS)[clip]).all()


def test_a_pass_has_every_window_once_and_the_next_is_in_another_order() -> None:
    total = sum(max(0, length - 31) for length in LENGTHS)
    passes = [windows(batch=total).first_frames(step).tolist() for step in range(2)]
    wanted = [begin + k for begin, length in zip(START, LENGTHS, strict=True) for k in range(max(0, length - 31))]
    assert sorted(passes[0]) == sorted(passes[1]) == wanted
    assert passes[0] != passes[1]
    assert passes[0] != windows(batch=total, seed=1).first_frames(0).tolist()


@pytest.mark.parametrize("mixing", ["windows", "clusters", {0: 1.0, 1: 2.0}])
def test_hosts_share_the_batch_of_one_host(mixing: object) -> None:
    order = windows(batch=16, mixing=mixing)
    for step in (5, 0, 70_000):
        whole = order.first_frames(step)
        for hosts in (2, 4):
            shares = [order.first_frames(step, host, hosts) for host in range(hosts)]
            np.testing.assert_array_equal(np.concatenate(shares), whole)
        np.testing.assert_array_equal(windows(batch=16, mixing=mixing).first_frames(step), whole)
    with pytest.raises(InputError, match="host 0 of 3 cannot share a batch of 16"):
        order.first_frames(0, 0, 3)


@pytest.mark.parametrize(
    ("mixing", "shares"),
    [("clusters", [1 / 3, 1 / 3, 1 / 3]), ({0: 1.0, 1: 3.0}, [0.25, 0.75, 0.0]), ({2: 5.0}, [0.0, 0.0, 1.0])],
)
def test_clusters_take_turns_by_their_weights(mixing: object, shares: list[float]) -> None:
    order = windows(batch=1 << 15, mixing=mixing)
    first = np.concatenate([order.first_frames(step) for step in range(4)])
    label = LABELS[np.searchsorted(START, first, side="right") - 1]
    counts = np.bincount(label, minlength=3)
    np.testing.assert_allclose(counts / len(first), shares, atol=2 / (1 << 16))
    for cluster in np.flatnonzero(counts):
        times = np.unique(first[label == cluster], return_counts=True)[1]
        assert times.max() - times.min() <= 1  # passes: none twice before all once


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(InputError, match="no clip in cluster 9"):
        windows(mixing={9: 1.0})
    with pytest.raises(InputError, match="no clip is as long as a window of 300 frames"):
        windows(frames=300)
    with pytest.raises(InputError, match="below 1/65536"):
        windows(mixing={0: 1.0, 1: 1e9})
    for wrong in (
        {"frames": 0},
        {"batch": 0},
        {"seed": -1},
        {"mixing": "takes"},
        {"mixing": {0: -1.0}},
        {"mixing": {}},
    ):
        with pytest.raises(ValueError, match=str(next(iter(wrong)))):
            WindowConfig(**wrong)


def test_training_clips_by_default_or_those_of_an_arm(store: Store) -> None:
    config = WindowConfig(batch=512)
    assert windows_of(store, config).first_frames(0).max() < START[7]
    arm = np.array([3, 5])
    first = windows_of(store, config, arm).first_frames(0)
    assert set((np.searchsorted(START, first, side="right") - 1).tolist()) == {3, 5}


def test_mixing_by_cluster_needs_clusters(tmp_path: Path) -> None:
    bare = write_store(tmp_path / "bare", [(ClipRow("c"), np.zeros((64, NQ), np.float32))])
    with pytest.raises(InputError, match="clips without a cluster cannot be mixed"):
        windows_of(bare, WindowConfig(mixing="clusters"))
    assert windows_of(set_clusters(bare, {"c": 0}), WindowConfig(mixing="clusters")).sizes.tolist() == [33]


def test_shards_and_map_give_the_same_windows(store: Store) -> None:
    order = windows_of(store, WindowConfig(batch=64))
    mapped, read = MappedFrames(store), ShardFrames(store)
    for step in range(3):
        first = order.first_frames(step)
        found = mapped.take(first, 32)
        assert found.shape == (64, 32, NQ)
        np.testing.assert_array_equal(found[..., 0], first[:, None] + np.arange(32))
        np.testing.assert_array_equal(read.take(first, 32), found)


@pytest.mark.parametrize("frames", [MappedFrames, ShardFrames])
def test_grain_resumes_in_the_middle_of_a_pass(store: Store, frames: type) -> None:
    def source(host: int = 0, hosts: int = 1) -> WindowSource:
        order = windows_of(store, WindowConfig(batch=8, mixing="clusters"))
        return WindowSource(frames(store), order, 12, host, hosts)

    straight = list(batches(source()))
    assert len(straight) == 12
    stopped = batches(source())
    for _ in range(5):
        next(stopped)
    state = stopped.get_state()
    resumed = batches(source())
    resumed.set_state(state)
    for wanted, found in zip(straight[5:], resumed, strict=True):
        np.testing.assert_array_equal(found["qpos"], wanted["qpos"])
        np.testing.assert_array_equal(found["first"], wanted["first"])
    for hosts in (2, 4):
        shares = zip(*(batches(source(host, hosts)) for host in range(hosts)), strict=True)
        for wanted, parts in zip(straight, shares, strict=True):
            np.testing.assert_array_equal(np.concatenate([part["qpos"] for part in parts]), wanted["qpos"])
    with pytest.raises(InputError, match="0 steps"):
        WindowSource(frames(store), windows_of(store, WindowConfig()), 0)


def test_the_flat_file_is_made_when_absent_stale_or_cut_and_else_kept(store: Store, tmp_path: Path) -> None:
    flat = store.folder / "frames.f32"
    before = MappedFrames(store).qpos.copy()
    made = flat.stat().st_mtime_ns
    np.testing.assert_array_equal(MappedFrames(store).qpos, before)
    assert flat.stat().st_mtime_ns == made
    flat.write_bytes(flat.read_bytes()[:-4])
    np.testing.assert_array_equal(MappedFrames(store).qpos, before)
    other = write(store.folder, seed=1)
    assert not np.array_equal(MappedFrames(other).qpos, before)
    np.testing.assert_array_equal(MappedFrames(other).qpos, np.concatenate(list(other.stream())))
    elsewhere = MappedFrames(other, tmp_path / "fast")
    np.testing.assert_array_equal(elsewhere.qpos, MappedFrames(other).qpos)
    assert (tmp_path / "fast" / "frames.f32").is_file()
