"""Progress is a plain line where nobody looks at a screen, a bar where somebody does, and never on standard output."""

import io
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from scaling.record import progress
from scaling.record.progress import Progress, duration, track


class Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def test_a_plain_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("experts", 40, stream=stream) as bar:
        for done in range(41):
            bar.update(done, message=f"loss {40 - done}")
            clock.now += 0.5
    lines = stream.getvalue().splitlines()
    assert lines[0] == "experts: started"
    assert lines[1] == "experts: 10/40 (25 %), 5.0 s, about 15 s left; loss 30"
    assert lines[-1] == "experts: done in 20 s; loss 0"
    assert len(lines) == 2 + 4  # one in five seconds


def test_the_eta_of_a_resumed_stage_counts_only_what_was_done_since(clock: Clock) -> None:
    with Progress("experts", 100, stream=io.StringIO()) as bar:
        bar.update(90)
        assert bar.eta_s() is None
        clock.now += 10
        bar.update(92)
        assert bar.eta_s() == pytest.approx(40)


def test_a_stage_that_fails_says_stopped(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Progress("experts", 2, stream=stream):
        raise RuntimeError
    assert stream.getvalue().splitlines()[-1] == "experts: stopped after 0.0 s"


def test_track_yields_everything_and_says_so_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "clips")) == [1, 2, 3]
    assert list(track(iter("ab"), "letters")) == ["a", "b"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "clips: done in" in captured.err


SCREEN = """
import time
from scaling.record.progress import Progress, say, track
with Progress("all stages [x]", 2) as whole:
    for stage in range(2):
        with Progress(f"stage {stage}", 3) as bar:
            for done in range(4):
                bar.update(done, message="loss 0.5")
                time.sleep(0.1)
        say(f"between the bars {stage}")
        whole.update(stage + 1)
print("to standard output")
"""


def test_nested_bars_at_a_terminal() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCREEN],
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(theirs)
    screen = b""
    while chunk := _read(ours):
        screen += chunk
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0
    assert out == "to standard output\n"
    text = screen.decode()
    for expected in ("all stages [x]", "stage 1", "left", "loss 0.5", "between the bars 1", "━"):
        assert expected in text
    assert "stage 1: done in" in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other side has ended
        return b""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (48.2, "48 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_in_words(seconds: float, words: Any) -> None:
    assert duration(seconds) == words
