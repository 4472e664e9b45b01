"""Joint offsets of a licensed body model (SMPL, SMPL+H, SMPL-X as npz) that the user has, for a person's own shape."""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scaling.errors import InputError

_NEEDS = ("v_template", "shapedirs", "J_regressor")


def body_offsets(path: Path, betas: Float[np.ndarray, "b"], parents: list[int]) -> Float[np.ndarray, "j 3"]:
    """Where each of the first joints lies from its parent (m; the root: from the origin), for this shape.

    As many `betas` are used as the model has. `InputError` for a file that is no such model; pickles are not read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            template, shapes, regressor = (np.asarray(file[name], np.float64) for name in _NEEDS)
    except FileNotFoundError:
        raise InputError(f"{path}: no such body model; check --body-model.") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a body model in npz with {', '.join(_NEEDS)} ({str(error).splitlines()[0]}); give the .npz "
            "that its authors offer, not the pickle."
        ) from None
    count = len(parents)
    fits = template.ndim == 2 and template.shape[1] == 3 and shapes.ndim == 3 and shapes.shape[:2] == template.shape
    if not fits or regressor.ndim != 2 or regressor.shape[1] != len(template) or len(regressor) < count:
        raise InputError(
            f"{path}: a body model of shapes {template.shape}, {shapes.shape}, {regressor.shape}; it must have "
            f"vertices [V, 3], their directions [V, 3, B] and at least {count} joints [J, V]."
        )
    used = min(len(betas), shapes.shape[2])
    joints = regressor[:count] @ (template + shapes[:, :, :used] @ betas[:used])
    return np.stack([joints[place] - (joints[parent] if parent >= 0 else 0.0) for place, parent in enumerate(parents)])
