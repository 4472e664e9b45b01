"""The bars of a terminal, all in one live display."""

import threading
from typing import TYPE_CHECKING

import rich.progress
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from scaling.record.progress import Progress


class _Times(rich.progress.ProgressColumn):
    """Elapsed and ETA by `Progress`' own reckoning, again at every refresh of the screen."""

    def render(self, task: rich.progress.Task) -> Text:
        owner: Progress = task.fields["owner"]
        return Text(owner.times(), style="cyan")


class Screen:
    """The terminal's one live display, shared by all bars of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: rich.progress.Progress | None = None

    def add(self, owner: "Progress") -> int:
        """A bar; its number."""
        with self._lock:
            if self._bars is None:
                self._bars = rich.progress.Progress(
                    rich.progress.TextColumn("{task.description}", markup=False),
                    rich.progress.BarColumn(bar_width=30),
                    rich.progress.TextColumn("{task.fields[share]}", markup=False),
                    _Times(),
                    rich.progress.TextColumn("{task.fields[message]}", style="dim", markup=False),
                    console=Console(stderr=True),
                    transient=True,
                    refresh_per_second=4,
                )
                self._bars.start()
            _, total = owner.fraction()
            return self._bars.add_task(owner.title, total=total, share="", message="", owner=owner)

    def refresh(self, task: int, owner: "Progress") -> None:
        """The bar as its owner stands."""
        with self._lock:
            if self._bars is not None:
                (done, total), bar = owner.fraction(), rich.progress.TaskID(task)
                self._bars.update(bar, completed=done, total=total, share=owner.share(), message=owner.message)

    def remove(self, task: int) -> None:
        """Takes a bar away, and with the last one the display."""
        with self._lock:
            if self._bars is not None:
                self._bars.remove_task(rich.progress.TaskID(task))
                if not self._bars.tasks:
                    self._bars.stop()
                    self._bars = None

    def say(self, text: str) -> bool:
        """One line above the bars; False where there are none."""
        with self._lock:
            if self._bars is not None:
                self._bars.console.print(text, markup=False, highlight=False)
            return self._bars is not None


SCREEN = Screen()
