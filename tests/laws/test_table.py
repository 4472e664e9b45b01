"""Reading tables and choosing rows: nothing is dropped silently and every refusal names the remedy."""

import gzip
import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from tables import falling, planted

from scaling.errors import InputError
from scaling.laws import fit_table, read_table
from scaling.laws.observations import observe


def write_csv(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(str(c) for c in row) for row in rows)]) + "\n")
    return path


def test_csv_gz_jsonl_and_parquet_give_the_same_table(tmp_path):
    columns = planted(falling, 0.01)
    plain = read_table(write_csv(tmp_path / "t.csv", columns))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    for other in (read_table(tmp_path / f"t.{kind}") for kind in ("csv.gz", "jsonl", "parquet")):
        np.testing.assert_array_equal(other.column("val_loss"), plain.column("val_loss"))
        assert other.hash(["frames", "val_loss", "run"]) == plain.hash(["frames", "val_loss", "run"])
        assert list(other.column("run")) == columns["run"]


def test_unknown_column_lists_the_nearest_and_all(tmp_path):
    path = write_csv(tmp_path / "t.csv", planted(falling, 0.01))
    with pytest.raises(InputError, match=r"no column 'valloss'; did you mean 'val_loss'\?.*frames, val_loss, run"):
        fit_table(path, data="frames", loss="valloss")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "holds no rows"),
        ("a.csv", "x,y\n", "holds no rows"),
        ("a.csv", "x,x\n1,2\n", "column 'x' twice"),
        ("a.csv", "x,y\n1,2,3\n", "line 2 has 3 cells"),
        ("a.jsonl", '{"x": 1}\n{"x": \n', "line 2 is not JSON"),
        ("a.xlsx", "x", "neither .csv nor .jsonl"),
        ("a.csv.gz", "not gzip", "cannot be read"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)


def test_bad_rows_are_left_out_with_their_reason_and_the_rest_fits(tmp_path):
    columns = {name: list(values) for name, values in planted(falling, 0.01, seeds=4).items()}
    columns["val_loss"][3], columns["val_loss"][7], columns["frames"][9] = "oops", float("nan"), ""
    law = fit_table(write_csv(tmp_path / "t.csv", columns), data="frames", loss="val_loss", run="run", resamples=100)
    reasons = {entry["row"]: entry["reason"] for entry in law.record["excluded"]}
    assert reasons == {3: "val_loss is text ('oops')", 7: "val_loss is missing", 9: "frames is missing"}
    assert law.record["n"] == 17


def spoil(name):
    table = {key: list(value) for key, value in planted(falling, 0.01).items()}
    if name == "negative":
        table["val_loss"][2] = -1.0
    elif name == "constant":
        table["frames"] = [1e5] * 10
    elif name == "levels":
        table = {key: value[:4] for key, value in table.items()}
    elif name == "conflict":
        table["run"], table["frames"][1] = ["a", "a", *table["run"][2:]], table["frames"][0]
    elif name == "text":
        table["val_loss"] = ["S"] * 10
    elif name == "empty":
        table["val_loss"] = [None] * 10
    return table


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("negative", r"row 2 .* val_loss = -1"),
        ("constant", "single level of frames"),
        ("levels", "needs 4 distinct levels of data, the rows have 2"),
        ("conflict", "rows 0 and 1 .* one run and point two losses"),
        ("text", "column 'val_loss' .* is text"),
        ("empty", "0 usable rows of 10"),
    ],
)
def test_unusable_tables_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        fit_table(spoil(name), data="frames", loss="val_loss", run="run")


def test_one_size_is_no_two_variable_law():
    table = planted(falling, 0.01) | {"params": [1e6] * 10}
    with pytest.raises(InputError, match="needs 3 distinct levels of size, the rows have 1"):
        fit_table(table, size="params", data="frames", loss="val_loss", form="chinchilla")


def test_missing_third_axis_is_derived_and_said():
    table = {"n": [1e6, 2e6], "c": [6e12, 2.4e13], "y": [2.0, 1.0]}
    found = observe(fit_source(table), size="n", compute="c", loss="y")
    np.testing.assert_allclose(found.values["data"], [1e6, 2e6])
    assert any("compute / (6 size)" in note for note in found.notes)


def fit_source(columns):
    from scaling.laws.table import from_columns

    return from_columns(columns)


def test_data_hash_depends_on_the_used_columns_alone():
    one = fit_source({"x": [1.0, 2.0], "y": [3.0, 4.0], "other": ["a", "b"]})
    two = fit_source({"other": ["c", None], "y": [3.0, 4.0], "x": [1.0, 2.0]})
    three = fit_source({"x": [1.0, 2.0], "y": [3.0, 4.0000001], "other": ["a", "b"]})
    assert one.hash(["x", "y"]) == two.hash(["x", "y"]) != three.hash(["x", "y"])
