"""Content hashes name a meaning: the same in every process and field order, another for every change."""

import dataclasses
import enum
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import InputError
from scaling.record import hashing
from scaling.record.hashing import canonical_json, content_hash, file_hash


@dataclasses.dataclass(frozen=True)
class Recipe:
    width: int = 8
    rate: float = 3e-4
    names: tuple[str, ...] = ("a", "b")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


SAMPLE = """
import dataclasses
from scaling.record.hashing import content_hash
@dataclasses.dataclass(frozen=True)
class Recipe:
    {fields}
print(content_hash({{"z": {{"x", "y", "w"}}, "recipe": Recipe(), "a": [1, 2.5, None, True]}}))
"""


def test_hash_is_stable_across_process_hash_seed_and_field_order() -> None:
    orders = ["width: int = 8; rate: float = 3e-4", "rate: float = 3e-4; width: int = 8"]
    found = {
        subprocess.run(
            [sys.executable, "-c", SAMPLE.format(fields=fields)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fields in orders
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_hash_does_not_drift_between_versions() -> None:
    # If this fails, every stored artifact has lost its name: restore the canonical form, or raise _SCHEME knowingly.
    value = {"recipe": Recipe(), "array": np.arange(6, dtype=np.float32).reshape(2, 3), "set": {"b", "a"}, "none": None}
    assert content_hash(value) == "ee4d560ac2f35c7d"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(st.dictionaries(st.text(max_size=4), trees, max_size=5))
def test_hash_ignores_the_order_of_keys(tree: dict[str, Any]) -> None:
    assert content_hash(tree) == content_hash(dict(reversed(list(tree.items()))))


@given(trees, trees)
def test_equal_hashes_mean_equal_canonical_values(one: Any, other: Any) -> None:
    assert (content_hash(one) == content_hash(other)) == (canonical_json(one) == canonical_json(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Recipe(), Recipe(width=9)),
        (Recipe(), dataclasses.asdict(Recipe())),
        ({"a": None}, {}),
        ({"a": 1}, {"a": "1"}),
        ([1, 2], [2, 1]),
        (True, 1),
        (Colour.RED, Colour.BLUE),
        (float("inf"), float("nan")),
        (np.zeros(3, np.float32), np.zeros(3, np.float64)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.arange(4), np.arange(4)[::-1]),
        (b"a", b"b"),
    ],
)
def test_different_meanings_have_different_hashes(one: Any, other: Any) -> None:
    assert content_hash(one) != content_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        (-0.0, 0.0),
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        (np.arange(6).reshape(2, 3).T.copy(), np.arange(6).reshape(2, 3).T),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
    ],
)
def test_one_meaning_has_one_hash(one: Any, other: Any) -> None:
    assert content_hash(one) == content_hash(other)


@pytest.mark.parametrize("value", [object(), lambda: 0, Recipe, Path("a"), {1: "a"}, np.array([object()]), 1j])
def test_values_without_an_identity_are_refused_by_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"value\.deep\[1\]"):
        content_hash({"deep": [0, value]})


def test_file_hash_is_of_names_and_bytes_not_of_place(tmp_path: Path) -> None:
    for root in ("here", "there"):
        (tmp_path / root / "sub").mkdir(parents=True)
        (tmp_path / root / "sub" / "a.csv").write_text("1,2")
        (tmp_path / root / "b.csv").write_text("3")
    assert file_hash(tmp_path / "here") == file_hash(tmp_path / "there")
    (tmp_path / "there" / "b.csv").write_text("4")
    assert file_hash(tmp_path / "here") != file_hash(tmp_path / "there")
    (tmp_path / "there" / "b.csv").write_text("3")
    (tmp_path / "there" / "b.csv").rename(tmp_path / "there" / "c.csv")
    assert file_hash(tmp_path / "here") != file_hash(tmp_path / "there")
    with pytest.raises(InputError, match="nowhere does not exist"):
        file_hash(tmp_path / "nowhere")


@dataclasses.dataclass(frozen=True)
class Holder:
    part: Any
    number: int = 0


def test_a_part_that_many_share_is_written_out_once(monkeypatch):
    made, float_of = [], hashing._EXACT[float]
    monkeypatch.setitem(hashing._EXACT, float, lambda value: made.append(value) or float_of(value))
    part = Recipe(rate=0.125)
    assert len({content_hash(Holder(part, number)) for number in range(50)}) == 50
    assert made == [0.125]
    assert content_hash(Holder(Recipe(rate=0.125), 3)) == content_hash(Holder(part, 3))


def test_a_part_that_can_change_or_only_equals_another_is_hashed_for_itself():
    box = Holder([1])
    before = content_hash(box)
    box.part.append(2)
    assert content_hash(box) == content_hash(Holder([1, 2])) != before
    assert len({content_hash(Holder(Holder(value))) for value in (1, 1.0, True)}) == 3
