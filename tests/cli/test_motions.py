"""`scaling motions`: what is read, what is left out and why, and what becomes of the rest."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from scaling.motion.corpus import Corpus
from scaling.motion.read import read_motion, write_npz
from scaling.motion.synthetic import generate

INSPECT = {
    "path",
    "ok",
    "format",
    "rate_hz",
    "frames",
    "joints",
    "quaternion",
    "joint_order",
    "problems",
    "reason",
}


@pytest.fixture
def mixed(clips, tmp_path):
    """The clips, one of them again as CSV under another name, and a file that is no motion."""
    folder = tmp_path / "mixed"
    shutil.copytree(clips, folder)
    qpos = read_motion(clips / "squat.npz").qpos
    rows = qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]]
    np.savetxt(folder / "again_50hz.csv", rows, delimiter=",", fmt="%.9f")
    (folder / "broken.csv").write_text("1,2,3\n")
    return folder


def test_inspect_reports_every_file(call, mixed):
    called = call("motions", "inspect", mixed / "*.csv", mixed / "turn.npz", "--json", "-")
    assert called.code == 0
    assert all(one.keys() >= INSPECT for one in called.json)
    found = {one["path"].rsplit("/", 1)[1]: one for one in called.json}
    assert {name: one["ok"] for name, one in found.items()} == {
        "again_50hz.csv": True,
        "broken.csv": False,
        "turn.npz": True,
    }
    assert found["again_50hz.csv"]["quaternion"] == "xyzw"
    assert found["again_50hz.csv"]["rate_hz"] == 50.0
    assert "3 columns" in found["broken.csv"]["reason"]


def test_inspect_in_words_names_the_files_the_quality_and_the_evidence(call, mixed):
    out = call("motions", "inspect", mixed).out
    assert str(mixed / "turn.npz") in out
    assert "3 columns" in out
    assert "slide m/s" in out
    assert "the name 'again_50hz.csv' says 50 Hz" in out


def test_inspect_takes_a_joint_order(call, tmp_path):
    joints = np.zeros((60, 23))
    arrays = {"frequency": 50.0, "root_pos": np.zeros((60, 3)), "root_rot": np.tile([1.0, 0, 0, 0], (60, 1))}
    np.savez(tmp_path / "clip.npz", dof_pos=joints, **arrays)
    asked = call("motions", "inspect", tmp_path / "clip.npz", "--json", "-")
    assert (asked.code, asked.json[0]["ok"]) == (2, False)
    assert "in which order are its 23 joints" in asked.json[0]["reason"]
    order = ("--joint-order", "mjcf without wrists", "--quaternion", "wxyz")
    (found,) = call("motions", "inspect", tmp_path / "clip.npz", *order, "--json", "-").json
    assert (found["joints"], found["joint_order"], found["quaternion"]) == (23, "mjcf without wrists", "wxyz")


def test_import_leaves_out_what_nobody_could_follow_unless_told_otherwise(call, clips, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    motion = read_motion(clips / "turn.npz")
    write_npz(replace(motion, qpos=motion.qpos + np.eye(36)[2], name="flying"), folder / "flying.npz")
    whole_take = generate("squat", 4.0, 9)
    write_npz(replace(whole_take, qpos=whole_take.qpos[:100], name="brief"), folder / "brief.npz")
    report = call("motions", "import", folder, "--out", tmp_path / "corpus", "--json", "-").json
    assert report["clips"] == 3
    assert "its feet float" in report["refused"][str(folder / "flying.npz")]
    assert report["refused"][str(folder / "brief.npz")].startswith(f"{folder / 'brief.npz'}: 2.00 s, shorter than")
    verdicts = json.loads((tmp_path / "corpus" / "quality.json").read_text())
    assert verdicts[str(folder / "turn.npz")]["score"] > verdicts[str(folder / "flying.npz")]["score"]
    whole = call("motions", "import", folder, "--uncurated", "--out", tmp_path / "whole", "--json", "-").json
    assert list(whole["refused"]) == [str(folder / "brief.npz")]
    assert [sorted(path.rsplit("/", 1)[1] for path in group) for group in whole["duplicates"]] == [
        ["flying.npz", "turn.npz"]
    ]
    for name, told in (("corpus", report), ("whole", whole)):
        kept = json.loads((tmp_path / name / "corpus.json").read_text())
        assert kept["refused"] == told["refused"] == Corpus.load(tmp_path / name).refused
        assert kept["duplicates"] == told["duplicates"]
        assert kept["config"]["curation"]["judged"] == (name == "corpus")


def test_thresholds_of_an_import_can_be_set_and_are_kept(call, refused, clips, tmp_path):
    ask = ("motions", "import", clips, "--out")
    assert "its root jerks" in refused(*ask, tmp_path / "none", "--set", "limits.root_jerk_p95_m_s3=1e-3")
    call(*ask, tmp_path / "corpus", "--set", "limits.foot_slide_m_s=.8", "--set", "duplicates.block_seconds=5")
    told = json.loads((tmp_path / "corpus" / "corpus.json").read_text())["config"]["curation"]
    assert told["limits"]["foot_slide_m_s"] == 0.8
    assert told["duplicates"]["block_seconds"] == 5.0
    assert "foot_slide_m_s" in refused(*ask, tmp_path / "none", "--set", "limits.foot_slid=.8")
    assert "must be positive" in refused(*ask, tmp_path / "none", "--set", "limits.foot_slide_m_s=-1")


def test_import_keeps_one_of_two_copies_whatever_their_format(call, mixed, tmp_path):
    report = call("motions", "import", mixed, "--out", tmp_path / "corpus", "--json", "-").json
    assert report["clips"] == 3
    assert [sorted(path.rsplit("/", 1)[1] for path in group) for group in report["duplicates"]] == [
        ["again_50hz.csv", "squat.npz"]
    ]
    assert list(report["refused"]) == [str(mixed / "broken.csv")]
    corpus = Corpus.load(tmp_path / "corpus")
    assert report["frames"] == corpus.frames() == 600
    assert report["hours"] == pytest.approx(corpus.hours())
    assert report["hash"] == corpus.content_hash


def test_import_excludes_by_name_and_by_path(call, refused, mixed, tmp_path):
    exclude = ("--exclude", "*.csv", "--exclude", f"{mixed}/turn*")
    report = call("motions", "import", mixed, "--out", tmp_path / "corpus", *exclude, "--json", "-").json
    assert report["clips"] == 2
    assert report["duplicates"] == []
    assert "--exclude" in refused("motions", "import", mixed, "--out", tmp_path / "none", "--exclude", "*")


def test_clips_of_one_name_stay_apart_and_a_file_given_twice_is_one(call, clips, tmp_path):
    for index in range(2):
        (tmp_path / f"take{index}").mkdir()
    shutil.copy(clips / "squat.npz", tmp_path / "take0" / "squat.npz")
    motion = read_motion(clips / "turn.npz")
    with np.load(clips / "turn.npz") as data:
        np.savez(tmp_path / "take1" / "other.npz", **{**data, "name": np.array(read_motion(clips / "squat.npz").name)})
    paths = [tmp_path / "take0", tmp_path / "take1", tmp_path / "take1" / "other.npz"]
    report = call("motions", "import", *paths, "--out", tmp_path / "corpus", "--json", "-").json
    assert report["clips"] == 2
    assert report["duplicates"] == []
    assert report["frames"] == motion.frames + read_motion(clips / "squat.npz").frames


def test_cluster(call, refused, clips, tmp_path):
    call("motions", "import", clips, "--out", tmp_path / "corpus")
    labels = [call("motions", "cluster", tmp_path / "corpus", "--clusters", 1, "--json", "-").json for _ in range(2)]
    assert labels[0] == labels[1]
    assert labels[0]["clusters"] == 1
    assert sum(labels[0]["sizes"]) == len(labels[0]["labels"])
    assert labels[0]["balance"] is None, "missing, where one cluster leaves nothing to say"
    assert "9 clusters" in refused("motions", "cluster", tmp_path / "corpus", "--clusters", 9)
    assert "no corpus" in refused("motions", "cluster", clips, "--clusters", 2)


def test_store(call, refused, clips, tmp_path):
    report = call("motions", "import", clips, "--out", tmp_path / "corpus", "--json", "-").json
    corpus = Corpus.load(tmp_path / "corpus")
    found = call("motions", "store", tmp_path / "corpus", "--json", "-").json
    assert found["store"] == report["store"]
    assert found["unique_frames"] == corpus.frames()
    assert found["augmented_frames"] == found["clusters"] == 0
    labels = tmp_path / "labels.json"
    call("motions", "cluster", tmp_path / "corpus", "--clusters", 1, "--json", labels)
    assert call("motions", "store", tmp_path / "corpus", "--clusters", labels, "--json", "-").json["clusters"] == 1
    assert "unique frames" in call("motions", "store", report["store"]).out
    assert "no labels here" in refused("motions", "store", report["store"], "--clusters", clips / "squat.npz")
    shard = tmp_path / "corpus" / "store" / "qpos-00000.array_record"
    shard.write_bytes(shard.read_bytes()[:-7])
    assert "cut short" in refused("motions", "store", tmp_path / "corpus")
    assert "no corpus" in refused("motions", "store", clips)


def test_cluster_at_several_k(call, clips, tmp_path):
    call("motions", "import", clips, "--out", tmp_path / "corpus", "--mirror", "--speeds", 0.9, 1.0)
    several = call("motions", "cluster", tmp_path / "corpus", "--clusters", 1, 2, "--json", "-").json
    assert [report["clusters"] for report in several] == [1, 2]
    assert all(len(report["names"]) == len(report["sizes"]) == report["clusters"] for report in several)
    assert several[1]["diversity"]["axes"] >= 1
    assert several[1]["names"][0] in call("motions", "cluster", tmp_path / "corpus", "--clusters", 2).out


def test_import_augments_and_holds_families_out(call, refused, clips, tmp_path):
    families = {read_motion(path).family for path in clips.glob("*.npz")}
    family = sorted(families)[0]
    asked = ("--test-family", family, "--mirror", "--out", tmp_path / "corpus")
    report = call("motions", "import", clips, *asked, "--json", "-").json
    corpus = Corpus.load(tmp_path / "corpus")
    assert {corpus.families[index] for index in corpus.indices("test_family")} == {family}
    assert report["splits"]["test_family"]["segments"] == len(corpus.indices("test_family"))
    assert report["augmented_frames"] == corpus.augmented_frames() == corpus.frames(corpus.indices("train"))
    assert report["frames"] == corpus.frames()
    folder = ("motions", "import", clips, "--out", tmp_path / "none")
    assert "no clip is of the family or recording 'ballet'" in refused(*folder, "--test-family", "ballet")
    assert "--speeds" in refused(*folder, "--speeds", 9)
