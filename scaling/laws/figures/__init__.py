"""Figures of scaling laws (matplotlib Agg, colour-blind safe, deterministic): SVG text or PNG bytes."""

from scaling.laws.figures.curves import law_curves, law_grid, loss_curves
from scaling.laws.figures.drawing import COLOURS, MARKERS, STYLE, Shown, compact, png, svg, write_figure
from scaling.laws.figures.fits import exponents, predicted_measured, residuals
from scaling.laws.figures.isoflop import Minimum, isoflop, isoflop_minima, optimal_exponent
from scaling.laws.figures.points import Points, fit_points
from scaling.laws.figures.studies import against_clusters, learning_curves, loss_success, throughput

__all__ = [
    "COLOURS",
    "MARKERS",
    "STYLE",
    "Minimum",
    "Points",
    "Shown",
    "against_clusters",
    "compact",
    "exponents",
    "fit_points",
    "isoflop",
    "isoflop_minima",
    "law_curves",
    "law_grid",
    "learning_curves",
    "loss_curves",
    "loss_success",
    "optimal_exponent",
    "png",
    "predicted_measured",
    "residuals",
    "svg",
    "throughput",
    "write_figure",
]
