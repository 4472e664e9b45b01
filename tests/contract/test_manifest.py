"""A manifest comes back as it was written, and whatever differs from this robot is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.contract import manifest as manifest_module
from scaling.contract.manifest import (
    MANIFEST,
    SCHEMA,
    SEAL,
    StateLeaf,
    check_contract,
    check_files,
    hash_files,
    make_manifest,
    read_manifest,
)
from scaling.contract.schema import violation
from scaling.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A policy folder of two files and a manifest."""
    (tmp_path / "params.npz").write_bytes(bytes(range(200)))
    (tmp_path / "normaliser.npz").write_bytes(b"mean and std")
    make_manifest(
        normaliser="normaliser.npz",
        student={"family": "mlp", "obs_dim": 234},
        parameters={"embed": 5, "head": 2},
        state=[StateLeaf("history", (-1, 4, 234), "float32")],
        row={"run": "a", "success_sonic": None, "assist": 0.5},
        files=hash_files(tmp_path, ["params.npz", "normaliser.npz"]),
        versions={"jax": "0.10.2"},
    ).write(tmp_path)
    return tmp_path


def check(folder):
    """What opening a policy does first."""
    manifest = read_manifest(folder)
    check_contract(manifest, folder / MANIFEST)
    check_files(manifest, folder)


def change(folder, edit):
    """Rewrite the manifest after `edit(raw)`."""
    raw = json.loads((folder / MANIFEST).read_text())
    edit(raw)
    (folder / MANIFEST).write_text(json.dumps(raw))


def test_it_comes_back_as_written_and_passes(folder):
    manifest = read_manifest(folder)
    check_contract(manifest)
    check_files(manifest, folder)
    again = folder / "again"
    again.mkdir()
    manifest.write(again)
    assert read_manifest(again) == manifest
    assert manifest.control_hz == 50.0
    assert manifest.versions["scaling"]
    assert sum(term.dim for term in manifest.terms) == 234
    assert (manifest.parameters, manifest.parameter_groups) == (7, {"embed": 5, "head": 2})


def swap(values, a, b):
    values[a], values[b] = values[b], values[a]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda raw: raw.update(robot="unitree_h1"), "unitree_h1"),
        (lambda raw: raw.update(robot_hash="0" * 64), "other figures"),
        (lambda raw: swap(raw["joints"], 3, 4), "joints are re-ordered: number 3 is 'left_ankle_pitch_joint'"),
        (lambda raw: raw["joints"].pop(), "joint 'right_wrist_yaw_joint' is missing"),
        (lambda raw: swap(raw["terms"], 0, 1), "observation terms are re-ordered: number 0 is 'gyro'"),
        (lambda raw: raw["terms"].pop(5), "observation term 'orientation_error' is missing"),
        (lambda raw: raw["terms"][2].update(name="feet_contact"), "unknown observation term 'feet_contact'"),
        (lambda raw: raw["terms"].append(raw["terms"][0]), "'gravity' stands twice"),
        (lambda raw: raw["terms"][1].update(unit="deg/s"), "'gyro' has unit 'deg/s'"),
        (lambda raw: raw["terms"][1].update(frame="world"), "'gyro' has frame 'world'"),
        (lambda raw: raw["terms"][1].update(dim=6), "'gyro' has dim 6"),
        (lambda raw: swap(raw["kp"], 0, 1), "kp of left_hip_pitch_joint"),
        (lambda raw: raw["kd"].__setitem__(28, 0.0), "kd of right_wrist_yaw_joint is 0.0"),
        (lambda raw: raw["effort"].__setitem__(0, 1.0), "effort of left_hip_pitch_joint"),
        (lambda raw: raw["action_scale"].pop(), "action_scale has 28 values"),
        (lambda raw: raw["action_scale"].__setitem__(0, 9.0), "action_scale of left_hip_pitch_joint"),
        (lambda raw: raw.update(control_hz=100.0), "control_hz is 100.0"),
        (lambda raw: raw.update(look_ahead=[1, 2]), "look_ahead"),
        (lambda raw: raw.update(action_base="default pose"), "action_base is 'default pose'"),
        (lambda raw: raw.update(action_limit=1.0), "action_limit is 1.0"),
        (lambda raw: raw.update(normaliser_clip=5.0), "normaliser_clip is 5.0"),
        (lambda raw: raw["student"].update(obs_dim=230), "230 observations"),
    ],
)
def test_another_contract_is_refused_by_name(folder, edit, said):
    change(folder, edit)
    with pytest.raises(InputError, match=said) as caught:
        check_contract(read_manifest(folder))
    assert "\n" not in str(caught.value)


def test_other_training_noise_is_no_reason_to_refuse(folder):
    change(folder, lambda raw: raw["terms"][1].update(noise=9.0))
    check_contract(read_manifest(folder))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda raw: raw.update(schema=SCHEMA + 1), f"schema {SCHEMA + 1}"),
        (lambda raw: raw.pop("schema"), "no schema"),
        (lambda raw: raw.pop("kp"), r"the manifest must contain \['kp'\]"),
        (lambda raw: raw.update(schema=True), "no schema"),
        (lambda raw: raw["terms"][0].pop("unit"), r"terms\[0\] must contain \['unit'\]"),
        (lambda raw: raw["terms"][3].update(dim=0), r"terms\[3\]\.dim must be bigger than or equal to 1"),
        (lambda raw: raw["terms"].clear(), "terms must contain at least 1 items"),
        (lambda raw: raw["action_scale"].__setitem__(0, "a"), r"action_scale\[0\] must be number"),
        (lambda raw: raw["kp"].__setitem__(3, True), r"kp\[3\] must be number"),
        (lambda raw: raw.update(control_hz=0), "control_hz must be bigger than 0"),
        (lambda raw: raw.update(robot=""), "robot must be longer"),
        (lambda raw: raw["files"].update({"params.npz": "abc"}), r"files\.params\.npz must match"),
        (lambda raw: raw.update(torque_boost=2.0), "must not contain {'torque_boost'}"),
        (lambda raw: raw["state"][0].update(shape="wide"), r"state\[0\]\.shape must be array"),
    ],
)
def test_an_unreadable_manifest_is_refused_at_once(folder, edit, said):
    change(folder, edit)
    with pytest.raises(InputError, match=said):
        read_manifest(folder)


def test_every_entry_has_its_type_in_the_schema(folder):
    good = json.loads((folder / MANIFEST).read_text())
    schema = json.loads((Path(manifest_module.__file__).parent / "manifest.schema.json").read_text())
    assert set(schema["properties"]) == set(good)
    assert set(schema["properties"]) - set(schema["required"]) == {SEAL, "parameter_groups"}
    assert violation(good) is None
    for name in good:
        accepted = [
            value for value in (None, True, -1, "", [3, "x"], {"": ["x"]}) if not violation(good | {name: value})
        ]
        told = [violation(good | {name: value}) for value in (None, True)]
        assert all(name in sentence for sentence in told), told
        loose = {"row": [{"": ["x"]}], "action_base": [""]}
        assert accepted == loose.get(name, []), name


def test_a_flipped_bit_anywhere_in_the_manifest_is_refused(folder):
    """The noise, the training row and the versions bind nothing, and are as they were written all the same."""
    path, flips = folder / MANIFEST, np.random.default_rng(0)
    good = path.read_bytes()
    for place in [good.index(b"noise") + 9, good.index(b"0.5"), *flips.integers(0, len(good) - 1, 300)]:
        data = bytearray(good)
        data[place] ^= 1 << int(flips.integers(0, 8))
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"manifest\.json"):
            check(folder)


def test_a_policy_older_than_its_seal_still_opens(folder):
    change(folder, lambda raw: (raw.pop(SEAL), raw.pop("parameter_groups")))
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    assert manifest.parameters == 7


def test_no_manifest_and_no_json_are_refused(folder):
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(folder / "nowhere")
    (folder / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(folder)


def test_one_flipped_bit_is_found(folder):
    path = folder / "params.npz"
    data = bytearray(path.read_bytes())
    data[123] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"params\.npz is not the file"):
        check_files(read_manifest(folder), folder)
    path.unlink()
    with pytest.raises(InputError, match=r"params\.npz is missing"):
        check_files(read_manifest(folder), folder)


def test_a_file_outside_the_folder_is_never_opened(folder):
    manifest = read_manifest(folder)
    replace(manifest, files={**manifest.files, "../secret": "0" * 64}).write(folder)
    with pytest.raises(InputError, match="outside its folder"):
        check_files(read_manifest(folder), folder)
