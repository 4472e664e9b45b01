"""The state of a sweep as one HTML page that opens from any file share, without a network."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.view import sections
from scaling.view.report import write_report

_RUNS = ("hash", "stage", "name", "state", "attempts", "preemptions", "seconds", "expected_s", "progress", "worker")


def write_page(path: Path, name: str, store: str, found: Mapping[str, Any]) -> Path:
    """Counts, bill, failures with their last lines, and every run of a `status`."""
    counts = found["counts"]
    parts: list[sections.Section] = [
        sections.Table("State", [counts], note=f"store `{store}`"),
        sections.Table("Bill", [{"stage": stage, **row} for stage, row in found["stages"].items()]),
    ]
    failed = [one for one in found["runs"] if one["state"] == "failed"]
    if failed:
        told = [f"**{one['name']}** `{one['hash']}`\n\n" + _block(one["error"] or "it said nothing") for one in failed]
        parts.append(sections.Text("Failures", "\n\n".join(told)))
    parts.append(sections.Table("Runs", found["runs"], _RUNS))
    done = f"{counts['finished']} of {sum(counts.values())} finished"
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return write_report(path, title=f"Sweep {name}: {done}", sections=parts, subtitle=f"written {when}")


def _block(text: str) -> str:
    """Lines as they are, in Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())
