"""What a report is made of: plain values that the study fills in and `report.write_report` lays out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; a bound that is not known is None."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"interval [{self.low}, {self.high}]: low must not exceed high")


@dataclass(frozen=True)
class Headline:
    """The findings in sentences, the verdict on the law, and a few figures as tiles.

    `validated`: True, the law predicted held-out runs; False, it was tested and failed; None, no law is claimed.
    """

    sentences: Sequence[str]
    verdict: str
    validated: bool | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    title: str = "Findings"


@dataclass(frozen=True)
class Text:
    """Markdown (HTML in it is shown, not run)."""

    title: str
    markdown: str


@dataclass(frozen=True)
class Table:
    """Rows as a sortable table: a list of mappings, or columns as `record.table.read_table` returns them.

    `columns` are shown at first, in that order; the others wait behind a button. Cells: numbers, text, bools,
    `Estimate`, None or NaN for missing.
    """

    title: str
    rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]
    columns: Sequence[str] | None = None
    note: str = ""
    help: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A picture: a path (.svg, .png, .gif, .jpg), SVG text, or PNG bytes; `caption` is markdown.

    A `wide` one takes the whole width of the page.
    """

    source: Path | str | bytes
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """Pictures, two abreast where the page is wide."""

    title: str
    figures: Sequence[Figure]
    note: str = ""


@dataclass(frozen=True)
class Dots:
    """Points of one series of a chart, all sequences of one length; `tips` are what hovering over each shows.

    `ids` name the same thing across charts: hovering over one marks it in all. `bounds` are bars, `hollow` the points
    drawn empty.
    """

    x: Sequence[float]
    y: Sequence[float]
    tips: Sequence[Mapping[str, Any]]
    ids: Sequence[str]
    hollow: Sequence[bool]
    bounds: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class Line:
    """A curve of a chart, solid, "dashed" or "dotted", with a band where `low` and `high` are given."""

    x: Sequence[float]
    y: Sequence[float]
    style: Literal["solid", "dashed", "dotted"] = "solid"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Series:
    """What has one colour and one entry of the legend (none where the name is empty)."""

    name: str
    colour: str
    dots: Dots | None = None
    lines: Sequence[Line] = ()


@dataclass(frozen=True)
class Chart:
    """A picture that answers the pointer; both axes are logarithmic where `log` says so."""

    x: str
    y: str
    series: Sequence[Series]
    log: Literal["xy", "x", "y", ""] = "xy"
    caption: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts, two abreast where the page is wide."""

    title: str
    charts: Sequence[Chart]
    note: str = ""


@dataclass(frozen=True)
class FitCard:
    """A law's card: markdown, or a mapping with the keys of `scaling fit --json` (any others are shown as they are)."""

    title: str
    content: str | Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """One measured quantity of one expert beside open-loop playback, both at the same `assist`."""

    cluster: str
    assist: float
    quantity: str
    unit: str
    expert: Estimate
    open_loop: Estimate
    better: Literal["higher", "lower"]

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise ValueError(f"better {self.better!r}: one of 'higher', 'lower'")

    @property
    def ratio(self) -> float | None:
        """Expert over open loop, None where either is missing or the latter is zero."""
        if self.expert.value is None or not self.open_loop.value:
            return None
        return self.expert.value / self.open_loop.value

    @property
    def verdict(self) -> str:
        """Says "better" or "worse" only where both intervals are known and do not overlap."""
        up, down = (self.expert, self.open_loop) if self.better == "higher" else (self.open_loop, self.expert)
        bounds = (self.expert.low, self.expert.high, self.open_loop.low, self.open_loop.high)
        if any(bound is None or bound != bound for bound in bounds):
            return "no interval"
        if up.low > down.high:  # type: ignore[operator]
            return "better"
        return "worse" if up.high < down.low else "intervals overlap"  # type: ignore[operator]


@dataclass(frozen=True)
class Competence:
    """Experts against open-loop playback, as a table and a dot plot with intervals."""

    title: str
    comparisons: Sequence[Comparison]
    note: str = ""


@dataclass(frozen=True)
class Renderings:
    """What `view_rollout` returned, one or several, each with a markdown caption."""

    title: str
    views: Sequence[tuple[Mapping[str, Path | str], str]]
    note: str = ""


@dataclass(frozen=True)
class Stages:
    """Seconds by stage; `cached` names the stages that were found done."""

    seconds: Mapping[str, float]
    cached: Collection[str] = ()
    title: str = "Stages"


@dataclass(frozen=True)
class Configuration:
    """Nested configuration (shown as dotted paths) and the hashes that pin the artifacts."""

    config: Mapping[str, Any]
    hashes: Mapping[str, str] = field(default_factory=dict)
    title: str = "Configuration"


@dataclass(frozen=True)
class Reproduce:
    """Commands to copy, and what to expect of them."""

    commands: Sequence[str]
    note: str = ""
    title: str = "How to reproduce"


Section = (
    Headline | Text | Table | Figures | Charts | FitCard | Competence | Renderings | Stages | Configuration | Reproduce
)
