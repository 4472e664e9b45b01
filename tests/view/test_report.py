import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from scaling.view import view_rollout, write_report
from scaling.view.cells import column_cells, flatten, format_value
from scaling.view.chart import chart_svg, ticks
from scaling.view.film import RenderSettings
from scaling.view.sections import (
    Chart,
    Charts,
    Comparison,
    Competence,
    Configuration,
    Dots,
    Estimate,
    Figure,
    Figures,
    FitCard,
    Headline,
    Line,
    Renderings,
    Reproduce,
    Series,
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
        Charts("Runs", [a_chart()], note=EVIL),
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


def a_chart(log="xy", low=1.0):
    """Three runs, one of them held out, and a curve with a band."""
    tips = [{"run": EVIL, "hash": "ab12", "loss": 0.5}, {"run": "b", "loss": 0.25}, {"run": "c", "loss": None}]
    dots = Dots([low, 10, 100], [0.5, 0.25, 0.125], tips, ["0", "1", EVIL], [False, False, True], [(0.1, 0.6)] * 3)
    line = Line([low, 100], [0.5, 0.125], "dashed", [0.4, 0.1], [0.6, 0.2])
    return Chart("frames " + EVIL, "loss", [Series("0.2M " + EVIL, "#0072B2", dots, [line])], log)


def test_a_point_of_a_chart_says_which_run_it_is():
    drawn = ElementTree.fromstring(str(chart_svg(a_chart())))
    dots = [node for node in drawn.iter() if node.get("class") == "dot"]
    assert [json.loads(dot.get("data-tip"))[0] for dot in dots] == [["run", EVIL], ["run", "b"], ["run", "c"]]
    assert json.loads(dots[0].get("data-tip"))[1] == ["hash", "ab12"]
    assert [dot.get("fill") for dot in dots] == ["#0072B2", "#0072B2", "#fff"]
    across = [float(dot.get("data-x")) for dot in dots]
    assert across[2] - across[1] == pytest.approx(across[1] - across[0], abs=0.2), "decades are equally wide"
    assert len([node for node in drawn.iter() if "dashed" in node.get("class", "")]) == 1
    assert len([node for node in drawn.iter() if node.get("class") == "bar"]) == 3


def test_a_chart_leaves_out_what_a_log_axis_cannot_show():
    assert chart_svg(a_chart(low=0.0)).count('class="dot"') == 2
    assert chart_svg(a_chart(log="y", low=0.0)).count('class="dot"') == 3
    assert "nothing to draw" in chart_svg(Chart("x", "y", [Series("none", "#000000")]))


@pytest.mark.parametrize(("low", "high"), [(0.18, 0.33), (2.0, 3.4), (1e3, 3e5), (1e18, 1e24), (0.9, 1.1)])
def test_ticks_are_few_and_inside(low, high):
    found = ticks(low, high, log=True)
    assert 3 <= len(found) <= 8
    assert all(low <= tick <= high for tick in found)
