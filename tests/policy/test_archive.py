"""The zip of a policy is the policy: opened where the folder is, refused where it is not whole."""

import zipfile

import numpy as np
import pytest

from scaling.contract.manifest import read_manifest
from scaling.errors import InputError
from scaling.policy.archive import is_archive, opened, pack
from scaling.policy.check import check_policy
from scaling.policy.export import export_policy, reexport
from scaling.policy.load import BACKENDS, load_policy
from tests.policy.conftest import OBS, ROW, student


@pytest.fixture
def zipped(exported, tmp_path):
    """The zip of an exported policy."""
    return pack(exported[0], tmp_path / "policy.zip")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_zip_acts_as_its_folder_does(exported, zipped, backend):
    obs = np.random.default_rng(0).normal(size=(40, OBS)).astype(np.float32)
    folder, single = (load_policy(path, backend=backend) for path in (exported[0], zipped))
    assert single.manifest_hash == folder.manifest_hash
    assert single.folder == zipped
    for row in obs:
        np.testing.assert_array_equal(single.act(row), folder.act(row))


def test_the_zip_is_checked_like_its_folder(zipped):
    report = check_policy(zipped)
    assert report["ok"], report["failures"]
    assert set(report["backends"]) == set(BACKENDS)


def test_the_same_policy_is_the_same_bytes(exported, zipped, tmp_path):
    assert pack(exported[0], tmp_path / "again.zip").read_bytes() == zipped.read_bytes()


def test_a_zip_is_written_and_made_anew_by_the_name_of_the_output(exported, tmp_path):
    _, family = exported
    out = export_policy(*student(family), ROW, tmp_path / "one.zip")
    assert is_archive(out)
    again = reexport(out, tmp_path / "folder")
    with opened(out) as folder:
        assert read_manifest(folder).files["params.npz"] == read_manifest(again).files["params.npz"]
        assert (folder / "vectors.npz").read_bytes() == (again / "vectors.npz").read_bytes()
    assert not folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"one.zip", "folder"}
    export_policy(*student(family), ROW, out)  # an older policy is replaced
    (tmp_path / "thesis.zip").write_bytes(b"years of work")
    with pytest.raises(InputError, match="not a policy folder or zip"):
        export_policy(*student(family), ROW, tmp_path / "thesis.zip")


@pytest.mark.parametrize("part", [0.05, 0.5, 0.9, 0.999])
def test_a_flipped_byte_anywhere_is_refused_by_the_zips_own_name(zipped, part):
    data = bytearray(zipped.read_bytes())
    data[int(part * len(data))] ^= 0x10
    zipped.write_bytes(data)
    with pytest.raises(InputError, match=r"policy\.zip") as caught:
        load_policy(zipped, backend="onnx")
    assert "scaling-policy-" not in str(caught.value)


def test_half_a_zip_and_no_zip_are_refused(zipped):
    zipped.write_bytes(zipped.read_bytes()[: zipped.stat().st_size // 2])
    assert not is_archive(zipped)
    with pytest.raises(InputError, match="not a whole zip"):
        load_policy(zipped)
    zipped.write_text("no zip at all")
    with pytest.raises(InputError, match="not a whole zip"):
        load_policy(zipped)


def test_entries_outside_the_folder_are_refused(zipped):
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr("../elsewhere", b"x")
    with pytest.raises(InputError, match="no plain file"):
        load_policy(zipped)
