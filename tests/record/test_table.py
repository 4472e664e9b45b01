"""The table keeps numbers exact, text as text and what is missing as missing."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scaling.errors import InputError
from scaling.record.table import read_table, rows_of, write_table

ROWS: list[dict[str, Any]] = [
    {"run": "a", "params": 1000, "loss": 0.1, "status": "done", "hash": "0012345678901234", "assist": None},
    {"run": "b", "params": 2000, "loss": math.nan, "hash": "1e10000000000000", "assist": None, "late": np.float32(0.5)},
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_missing_is_missing_in_both_twins(tmp_path: Path, suffix: str) -> None:
    write_table(ROWS, tmp_path / "table.csv")
    table = read_table(tmp_path / f"table{suffix}")
    assert list(table) == ["run", "params", "loss", "status", "hash", "assist", "late"]
    assert table["run"] == ["a", "b"]
    assert table["hash"] == ["0012345678901234", "1e10000000000000"]  # digits, but no numbers
    assert table["status"] == ["done", None]
    np.testing.assert_array_equal(table["params"], np.array([1000, 2000]))
    assert isinstance(table["params"], np.ndarray)
    assert table["params"].dtype == np.int64
    np.testing.assert_array_equal(table["loss"], [0.1, math.nan])
    np.testing.assert_array_equal(table["assist"], [math.nan, math.nan])
    np.testing.assert_array_equal(table["late"], [math.nan, 0.5])


def test_an_empty_cell_and_not_a_sentinel_is_on_disk(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines()[1:] == [
        '"a",1000,0.1,"done","0012345678901234",,',
        '"b",2000,,,"1e10000000000000",,0.5',
    ]


cells = st.none() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8", exclude_characters="\r"))


@example([{"key": 0, "cell": "Infinity"}, {"key": 1, "cell": "-Infinity"}, {"key": 2, "cell": "1e999"}])
@example([{"key": 0, "cell": math.inf}, {"key": 1, "cell": -math.inf}])
@given(st.lists(st.fixed_dictionaries({"key": st.integers(0, 9), "cell": cells}), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_table(rows, path)
    texts = any(isinstance(row["cell"], str) for row in rows)
    expected = [row["cell"] if row["cell"] is None or not texts else str(row["cell"]) for row in rows]
    for twin in (path, path.with_suffix(".jsonl")):
        assert [row["cell"] for row in rows_of(read_table(twin))] == expected
        assert [row["key"] for row in rows_of(read_table(twin))] == [row["key"] for row in rows]


def test_counts_beyond_64_bits_are_floats(tmp_path: Path) -> None:
    write_table([{"flops": 10**20}], tmp_path / "table.csv")
    np.testing.assert_array_equal(read_table(tmp_path / "table.csv")["flops"], [1e20])


def test_a_foreign_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_bytes(b'\xef\xbb\xbfN,loss,name\r\n1e6, 2.5 ,"x, ""y"""\r\n2e6,,plain\r\n\r\n')
    table = read_table(tmp_path / "other.csv")
    np.testing.assert_array_equal(table["N"], [1e6, 2e6])
    np.testing.assert_array_equal(table["loss"], [2.5, math.nan])
    assert table["name"] == ['x, "y"', "plain"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n3\n", "row 3 of .* has 1 cells instead of 2"),
        ("a,a\n1,2\n", "two columns named 'a'"),
        ('a,b\n"1,2\n', "row 2 of .* unclosed quotation mark"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_table(tmp_path / "bad.csv")


def test_no_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="not a text file"):
        read_table(tmp_path)


def test_a_cell_is_one_value(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="column 'curve'"):
        write_table([{"curve": [1, 2]}], tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()
