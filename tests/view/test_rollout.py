import dataclasses

import numpy as np
import pytest

from scaling.errors import InputError
from scaling.view import Rollout


def test_save_and_load_give_the_same_rollout(rollout, tmp_path):
    loaded = Rollout.load(rollout.save(tmp_path / "deep" / "rollout.npz"))
    np.testing.assert_array_equal(loaded.qpos, rollout.qpos)
    np.testing.assert_array_equal(loaded.reference, rollout.reference)
    for name in ("rate_hz", "title", "assist", "failed_at", "metrics"):
        assert getattr(loaded, name) == getattr(rollout, name)
    assert loaded.metrics == {"mpjpe_l_mm": 41.5, "success_sonic": None}
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["rollout.npz"]


def test_a_clip_alone_has_no_reference_after_loading(rollout, tmp_path):
    clip = dataclasses.replace(rollout, reference=None, assist=None, failed_at=None)
    loaded = Rollout.load(clip.save(tmp_path / "clip.npz"))
    assert loaded.reference is None
    assert loaded.assist is None
    assert loaded.failed_at is None


@pytest.mark.parametrize("content", [None, b"", b"not an archive"])
def test_a_file_that_is_no_rollout_is_refused_by_name(tmp_path, content):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz"):
        Rollout.load(path)


def test_a_torn_file_is_refused(rollout, tmp_path):
    path = rollout.save(tmp_path / "torn.npz")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"torn\.npz is not a rollout"):
        Rollout.load(path)


def test_an_npz_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", qpos=np.zeros((3, 36)))
    with pytest.raises(InputError, match=r"x\.npz is not a rollout"):
        Rollout.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qpos": np.zeros((5, 35))}, r"\(5, 35\)"),
        ({"reference": np.zeros((4, 36))}, r"\(4, 36\)"),
        ({"rate_hz": 0.0}, "rate_hz 0.0"),
        ({"failed_at": 100}, "failed_at 100"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_value(rollout, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(rollout, **change)


def test_a_diverged_simulation_is_cut_where_it_diverged(rollout):
    qpos = rollout.qpos.copy()
    qpos[80:, 3] = np.nan
    diverged = dataclasses.replace(rollout, qpos=qpos)
    assert diverged.frames == 80
    assert "diverged after 1.58 s" in diverged.caption()
    assert "failed at 1.50 s" in diverged.caption()
