"""The figures of a study beside its laws, from planted rows and logs."""

import pytest

from scaling.record.runs import RunLog
from scaling.study.comparisons import CAPTIONS, comparisons, curve_rows


def planted(clusters=(2, 4)):
    """Rows of two families on two arms and their banks."""
    rows = []
    for k in clusters:
        for student in ("mlp", "transformer"):
            for arm in (0.5, 1.0):
                run = f"{student}-{arm}-K{k}"
                rows.append({"run": run, "config_hash": f"h{len(rows)}", "student": student, "size": "0.2M",
                             "params": 200_000, "arm": arm, "clusters": k, "seed": 0, "status": "finished",
                             "val_loss": 0.3 / k / arm, "seconds": 2.0, "flops": 1e9, "labelled_frames": 100,
                             "expert_survival_s_assist0": float(k), "success_sonic": 0.5, "success_sonic_assist0": 0.25,
                             "success_sonic_assist0_low": 0.1, "success_sonic_assist0_high": 0.5})  # fmt: skip
    return rows


@pytest.fixture
def runs(tmp_path):
    """Logs of all runs but the last."""
    for row in planted()[:-1]:
        with RunLog(tmp_path / f"{row['run']}-{row['config_hash']}", mirror=False) as log:
            for step in (10, 20, 30):
                log.log(step, val_loss=row["val_loss"] * (1 + 3 / step), train_loss=1.0)
    return tmp_path


def test_curves_come_from_the_logs_that_there_are(runs):
    rows = planted()
    curves = curve_rows(rows, runs)
    assert len(curves) == 3 * (len(rows) - 1)
    assert curves[0] == {"run": "mlp-0.5-K2", "student": "mlp", "size": "0.2M", "arm": 0.5, "clusters": 2, "seed": 0,
                         "step": 10, "val_loss": pytest.approx(0.39)}  # fmt: skip


def test_all_figures_of_a_study_with_two_families_and_two_k(runs):
    rows = planted()
    drawn = comparisons(rows, curve_rows(rows, runs))
    assert set(drawn) == set(CAPTIONS)
    (curves,) = drawn["learning"].axes
    assert [line.get_ydata()[-1] for line in curves.get_lines()] == pytest.approx([0.165, 0.165]), "full arm, first K"
    assert [axis.get_title() for axis in drawn["clusters"].axes] == ["expert survival s assist0", "val loss"]
    (success,) = drawn["success"].axes
    assert success.get_ylabel() == "success sonic assist0", "the harness does not flatter it"


def test_what_a_small_study_cannot_show_is_left_out():
    rows = planted(clusters=(2,))
    assert set(comparisons(rows, [])) == {"throughput", "success"}
    assert comparisons([row | {"status": "diverged"} for row in rows], []) == {}
