"""Frames on their way to a corpus: in a file without a name, so that memory holds one clip and not all of them."""

import mmap
import tempfile
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scaling.record.files import told
from scaling.robot.g1 import NQ


class Spool:
    """Clips written one behind the other as they come, and mapped into memory (not read) once all are there.

    The file lies in `folder`, or in what there is of the way to it (else where temporary files do), has no name, and
    goes when nothing refers to it.
    """

    def __init__(self, dtype: type[np.floating], folder: str | Path | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._folder = Path(folder) if folder is not None else Path(tempfile.gettempdir())
        while not self._folder.exists():
            self._folder = self._folder.parent
        self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # open while clips come
        weakref.finalize(self, self._file.close)  # a mapping lives on without it
        self._edges = [0]

    def add(self, rows: Float[np.ndarray, "T 36"]) -> None:
        """Append one clip; a full disk raises `InputError`."""
        try:
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        except OSError as error:
            sentence = told(error, self._folder, "writing")
            if sentence is not None:
                raise sentence from None
            raise
        self._edges.append(self._edges[-1] + len(rows))

    def frames(self) -> Float[np.ndarray, "N 36"]:
        """All frames, read-only."""
        if not self._edges[-1]:
            return np.empty((0, NQ), self._dtype)
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        return np.frombuffer(mapped, self._dtype).reshape(-1, NQ)

    def clips(self) -> list[Float[np.ndarray, "T 36"]]:
        """The clips in the order in which they came, read-only."""
        frames = self.frames()
        return [frames[begin:end] for begin, end in pairwise(self._edges)]
