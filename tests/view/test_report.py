import re

import numpy as np
import pytest

from scaling.view import view_rollout, write_report
from scaling.view.cells import column_cells, flatten, format_value
from scaling.view.film import RenderSettings
from scaling.view.sections import (
    Comparison,
    Competence,
    Configuration,
    Estimate,
    Figure,
    Figures,
    FitCard,
    Headline,
    Renderings,
    Reproduce,
    Stages,
    Table,
    Text,
)
from tests.view.samples import Page

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(3)</script></svg>'


def comparison(low, high, open_low, open_high, better="higher"):
    expert = Estimate((low + high) / 2, low, high)
    return Comparison(EVIL, 0.5, "survived " + EVIL, "s", expert, Estimate(1.0, open_low, open_high), better)


@pytest.fixture
def everything(rollout, tmp_path):
    """One section of every kind, with hostile text wherever text can go."""
    settings = RenderSettings(width=64, height=64, max_seconds=0.4, strip_frames=2, tile_width=64, tile_height=64)
    view = dict(view_rollout(rollout, tmp_path / "view", settings, gl=())) | {"reason": EVIL}
    return [
        Headline([EVIL, "a **bold** claim"], EVIL, None, {EVIL: EVIL, "runs": 44}),
        Text("Words " + EVIL, EVIL + "\n\n![picture](http://example.com/x.png)\n\n[link](javascript:alert(4))"),
        Table(
            "Runs", [{"run": EVIL, "val_loss": 0.125, EVIL: None}, {"run": "b", "val_loss": float("nan")}], note=EVIL
        ),
        Figures("Law", [Figure(SVG, EVIL), Figure(tmp_path / "gone.svg", "")]),
        FitCard("Card", {"form": EVIL, "params": {"a": 1.0}, "intervals": {"a": [0.5, 2.0]}}),
        Competence("Experts", [comparison(1.8, 2.2, 0.8, 1.2)], note=EVIL),
        Renderings("View", [(view, EVIL)]),
        Stages({EVIL: 1.5, "fit": 3.0}, cached={"fit"}),
        Configuration({"a": {"b": EVIL}}, {EVIL: EVIL}),
        Reproduce(["scaling quickstart " + EVIL], note=EVIL),
    ]


def test_user_text_is_shown_and_never_run(everything, tmp_path):
    text = write_report(tmp_path / "report.html", title=EVIL, subtitle=EVIL, sections=everything).read_text()
    page = Page(text)
    assert page.tags.count("script") == 1, "only the report's own script"
    assert "onerror=alert(1)&gt;" in text
    for tag in re.findall(r"<[a-z][^>]*>", re.sub(r'srcdoc="[^"]*"', "", text)):
        assert "onerror" not in re.sub(r'"[^"]*"', "", tag), tag
    assert "javascript:alert" not in "".join(re.findall(r'href="[^"]*"', text))


def test_the_report_fetches_nothing_and_says_so_to_the_browser(everything, tmp_path):
    text = write_report(tmp_path / "report.html", title="t", sections=everything).read_text()
    resources = Page(text).resources
    assert resources
    assert all(uri.startswith("data:") for uri in resources)
    assert not re.search(r"""(?:src|poster|srcset)=["']?(?:https?:)?//|@import|url\(""", text)
    assert "default-src 'none'" in text
    assert any(uri.startswith("data:video/mp4;base64,") for uri in resources)
    assert 'sandbox="allow-scripts"' in text


def test_a_figure_that_is_not_there_leaves_a_visible_gap(everything, tmp_path):
    text = write_report(tmp_path / "report.html", title="t", sections=everything).read_text()
    assert "gone.svg was not there" in text


@pytest.mark.parametrize(
    ("validated", "words"),
    [(True, "Law validated"), (False, "Law not validated"), (None, "No law claimed")],
)
def test_the_verdict_is_said_in_words(tmp_path, validated, words):
    section = Headline(["s"], "because", validated)
    text = write_report(tmp_path / "r.html", title="t", sections=[section]).read_text()
    assert [w for w in ("Law validated", "Law not validated", "No law claimed") if w in text] == [words]


def test_the_table_takes_rows_or_columns_and_hides_what_was_not_asked_for(tmp_path):
    rows = [{"run": "a", "loss": 1.0, "seed": 0}, {"run": "b", "loss": None, "seed": 1}]
    columns = {"run": ["a", "b"], "loss": np.array([1.0, np.nan]), "seed": np.array([0, 1])}
    pages = [
        write_report(tmp_path / "r.html", title="t", sections=[Table("T", table, columns=["loss", "run"])]).read_text()
        for table in (rows, columns)
    ]
    assert pages[0] == pages[1]
    heads = re.findall(r'<th scope="col" class="([^"]*)"[^>]*><button type="button">([^<]*)', pages[0])
    assert heads == [("n", "loss"), ("", "run"), ("n extra", "seed")]


def test_a_section_of_another_kind_is_refused(tmp_path):
    with pytest.raises((TypeError, AttributeError)):
        write_report(tmp_path / "r.html", title="t", sections=["just text"])  # type: ignore[list-item]
    assert not (tmp_path / "r.html").exists()


def test_better_is_said_only_where_intervals_do_not_overlap():
    assert comparison(1.8, 2.2, 0.8, 1.2).verdict == "better"
    assert comparison(1.1, 2.2, 0.8, 1.2).verdict == "intervals overlap"
    assert comparison(0.2, 0.6, 0.8, 1.2).verdict == "worse"
    assert comparison(0.2, 0.6, 0.8, 1.2, better="lower").verdict == "better"
    assert Comparison("c", 0.0, "q", "", Estimate(2.0), Estimate(1.0), "higher").verdict == "no interval"
    assert Comparison("c", 0.0, "q", "", Estimate(2.0), Estimate(0.0), "higher").ratio is None


def test_a_column_of_numbers_aligns_and_missing_is_a_dash_that_sorts_last():
    cells = column_cells([0.5, 12.25, None, float("nan"), np.float32(3)])
    assert [cell.text for cell in cells] == ["0.50", "12.25", "–", "–", "3.00"]
    assert [cell.sort for cell in cells[2:4]] == ["", ""]
    assert [cell.text for cell in column_cells([1000000, 2])] == ["1,000,000", "2"]
    assert [cell.text for cell in column_cells([1.5e9, 0.25])] == ["1.500e+09", "2.500e-01"]
    assert format_value(Estimate(1.8, 1.5, 2.25)) == "1.80 [1.50, 2.25]"
    assert format_value(True) == "yes"
    assert format_value(-0.5) == "−0.5"


def test_nested_configuration_becomes_dotted_paths():
    assert flatten({"a": {"b": 1, "c": [{"d": 2}]}, "e": []}) == [("a.b", 1), ("a.c[0].d", 2), ("e", [])]
