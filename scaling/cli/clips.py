"""What an actor is to track: clips from motion files or from one split of a corpus, at 50 Hz."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from scaling.motion.read import Given

_LISTED = 8  # names that a refusal lists; the count tells of the rest
_DEEPEST = 0.25  # m; with a foot on the floor a robot would be off by more than the protocols allow


@dataclass(frozen=True)
class Clips:
    """Whole clips at 50 Hz, with their names and families, and what was refused."""

    qpos: "Sequence[np.ndarray]"
    names: Sequence[str]
    families: Sequence[str]
    refused: dict[str, str]


def add_given(verb: argparse.ArgumentParser) -> None:
    """What a caller may say of motion files that cannot tell."""
    verb.add_argument("--rate", type=float, metavar="HZ", help="of files that do not hold theirs")
    verb.add_argument("--quaternion", choices=("xyzw", "wxyz"), help="of files that cannot tell, such as some CSV")
    verb.add_argument("--joint-order", metavar="ORDER", help="of files that cannot tell: mjcf or isaac")
    verb.add_argument("--body-model", metavar="NPZ", help="of people in SMPL; else a mean skeleton, which is told")


def given_of(arguments: argparse.Namespace) -> "Given":
    """The flags of `add_given`."""
    from scaling.motion.read import Given

    model = Path(arguments.body_model) if arguments.body_model else None
    return Given(arguments.rate, arguments.quaternion, arguments.joint_order, model)


def choose_clip(names: Sequence[str], wanted: str | None, where: str) -> int:
    """The place of the clip that --clip names, in full or by its part behind the colon; the only one needs no name."""
    if wanted is None and len(names) == 1:
        return 0
    found = [place for place, name in enumerate(names) if wanted in (name, name.rsplit(":", 1)[-1])]
    if len(found) == 1:
        return found[0]
    near = [name for name in names if wanted is not None and wanted in name] or list(names)
    shown = ", ".join(near[:_LISTED]) + (", ..." if len(near) > _LISTED else "")
    if wanted is None:
        raise InputError(f"{where} holds {len(names)} clips and one can be viewed: name it with --clip, of {shown}")
    raise InputError(f"{where}: no one clip is called {wanted!r} among {len(names)}; give --clip one of {shown}")


def load_clips(path: str, split: str, frames: int, given: "Given | None" = None) -> Clips:
    """Motion files, or one split of a corpus; clips that cannot be played are refused by name, and if all are, raised.

    Refused are unreadable files, clips of fewer than `frames` frames at 50 Hz, and feet far below the floor.
    """
    from scaling.motion.clip import resample
    from scaling.motion.corpus import Corpus, is_corpus
    from scaling.motion.read import read_motions

    if is_corpus(path):
        corpus = Corpus.load(path)
        chosen = [int(index) for index in corpus.indices(split)]
        if not chosen:
            raise InputError(f"{path}: its split {split!r} is empty; choose another --split")
        found = [(corpus.names[i], corpus.families[i], corpus.segment(i)) for i in chosen]
        refused: dict[str, str] = {}
    else:
        motions = read_motions(path, **({} if given is None else vars(given)))
        refused = dict(motions.refused)
        steady = [resample(motion) for motion in motions.motions]
        found = [(motion.name, motion.family, motion.qpos) for motion in steady]
    for name, _, qpos in found:
        reason = _unplayable(qpos, max(frames, 2))
        if reason is not None:
            refused[name] = f"{name}: {reason}"
    kept = [one for one in found if one[0] not in refused]
    if not kept:
        raise InputError(f"{path}: no clip can be played; {next(iter(refused.values()))}")
    names, families, qpos_of = zip(*kept, strict=True)
    return Clips(qpos_of, names, families, refused)


def _unplayable(qpos: "np.ndarray", needed: int) -> str | None:
    """Why nobody can track this, in words; None if somebody may."""
    import numpy as np

    from scaling.robot.kinematics import soles

    if len(qpos) < needed:
        return f"{len(qpos)} frames at 50 Hz, fewer than the student's context of {needed}; give a longer clip"
    lowest = soles(np.asarray(qpos, np.float64))[..., 2].min(axis=(1, 2))
    if lowest.min() < -_DEEPEST:
        frame = int(lowest.argmin())
        return (
            f"its feet are up to {-lowest[frame]:.2f} m below the floor (frame {frame}), and more than {_DEEPEST:g} m "
            "cannot be tracked; move the clip up"
        )
    return None
