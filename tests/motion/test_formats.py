"""Every file of the formats folder imports or is refused as FORMATS.md says, and pairs agree to the listed figures."""

import gzip
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from scaling.bench.formats import GROUPS, PAIRS, PEOPLE, Pair, departure, expected_refusal, listed, plan, worst_share
from scaling.motion.importers.joint_order import ISAAC
from scaling.motion.read import inspect, read_motion

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "motions" / "formats"
WITH_MINK = importlib.util.find_spec("mink") is not None
FILES = listed(FOLDER)


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
def test_the_manifest_lists_48_files_in_18_groups() -> None:
    assert len(FILES) == 48
    assert {group for group, _, _ in FILES} == set(GROUPS) | set(PEOPLE) | {"csv_wrong_robot"}


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize(
    ("group", "file", "sha256"), FILES, ids=[f"{group}-{Path(file).name}" for group, file, _ in FILES]
)
def test_every_listed_file_imports_or_is_refused(group: str, file: str, sha256: str) -> None:
    if group in PEOPLE and not WITH_MINK and expected_refusal(group, FOLDER / file) is None:
        pytest.skip("mink is absent")
    assert departure(FOLDER, group, file, sha256) is None


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
def test_what_departs_from_its_documentation_is_told() -> None:
    file, sha256 = next((file, sha256) for group, file, sha256 in FILES if group == "csv36_xyzw_60hz")
    assert "another file" in str(departure(FOLDER, "csv36_xyzw_60hz", file, "0" * 64))
    assert "should be refused" in str(departure(FOLDER, "csv_wrong_robot", file, sha256))
    assert "instead of" in str(departure(FOLDER, "npy_phuma", file, sha256))
    moves = "csv36_xyzw_60hz/B_HandsUp.csv"
    assert worst_share(FOLDER, Pair(moves, "npz_beyondmimic_mjcf_order/B_HandsUp.npz", 1e-9, 2e-5)) > 1.0


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize(
    "pair", PAIRS, ids=[Path(pair.second).parent.name + "-" + Path(pair.second).name for pair in PAIRS]
)
def test_the_same_motion_in_two_formats_agrees(pair: Pair) -> None:
    assert worst_share(FOLDER, pair) < 1.0


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize(
    "file", ["pkl_gmr_29/0807_yanjie_walk_001.pkl", "torchzip_protomotions/output_walk.motion", "pkl_gmt_23/squat.pkl"]
)
def test_name_and_gzip_do_not_matter(file: str, tmp_path: Path) -> None:
    original = read_motion(FOLDER / file)
    misnamed = tmp_path / "clip.npy"
    shutil.copy(FOLDER / file, misnamed)
    packed = tmp_path / "clip.csv.gz"
    packed.write_bytes(gzip.compress((FOLDER / file).read_bytes()))
    for path in (misnamed, packed):
        found = read_motion(path)
        np.testing.assert_array_equal(found.qpos, original.qpos)
        assert found.rate_hz == original.rate_hz


@pytest.mark.skipif(not FILES, reason=f"{FOLDER} is absent")
def test_what_formats_says_of_single_files() -> None:
    def problems(file: str) -> str:
        return "; ".join(inspect(FOLDER / file)["problems"])

    assert "teleport" in problems("pkl_gmr_29/0807_yanjie_walk_004.pkl")
    assert "quaternion norms were off by up to 1.9 %" in problems("pkl_gmr_29/accad_A3___Swing_t2.pkl")
    assert "14 joints never move" in problems("npy_phuma/fightAndSports1_subject4.npy")


def test_isaac_order_is_the_inverse_of_the_list_in_formats() -> None:
    assert sorted(ISAAC) == list(range(29))
    assert ISAAC[:4] == (0, 6, 12, 1)


def test_the_plan_grows_with_the_frames_and_for_duplicates_with_their_square() -> None:
    found = {row.name: row.value for row in plan({"curate": 3.6, "duplicates": 3.6}, 2_000_000)}
    assert found["plan_2B_curate"] == pytest.approx(1.0)
    assert found["plan_2B_duplicates"] == pytest.approx(1000.0)
    assert found["plan_2B_duplicates_in_parts"] == pytest.approx(10.0)
    assert (found["plan_2B_hosts"], found["plan_2B_hosts_in_parts"]) == (1.0, 1.0)
    more = {row.name: row.value for row in plan({"curate": 3.6, "duplicates": 3.6}, 1_000_000)}
    assert (more["plan_2B_curate"], more["plan_2B_duplicates"]) == (pytest.approx(2.0), pytest.approx(4000.0))
    assert (more["plan_2B_hosts"], more["plan_2B_hosts_in_parts"]) == (3.0, 1.0)
