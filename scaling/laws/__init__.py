"""Scaling laws of any table of runs: a table in, a law with intervals, hold-out and verdict out. Knows no robots."""

from scaling.laws.card import card_markdown, write_card
from scaling.laws.law import Law, fit_groups, fit_table
from scaling.laws.table import Table, read_table

__all__ = ["Law", "Table", "card_markdown", "fit_groups", "fit_table", "read_table", "write_card"]
