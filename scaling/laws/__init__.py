"""Scaling laws of any table of runs: a table in, a law with intervals, hold-out and verdict out. Knows no robots."""

from scaling.laws.card import card_markdown, write_card
from scaling.laws.law import Law, fit_groups, fit_table
from scaling.laws.link import Link, fit_link
from scaling.laws.optimal import Allocation
from scaling.laws.table import Table, read_table

__all__ = [
    "Allocation",
    "Law",
    "Link",
    "Table",
    "card_markdown",
    "fit_groups",
    "fit_link",
    "fit_table",
    "read_table",
    "write_card",
]
