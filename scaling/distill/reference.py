"""Loss of finished students against a bank that taught none of them, so that students of all banks compare."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.contract.normaliser import Normaliser
from scaling.distill.loss import by_family, over_families, smooth_l1
from scaling.distill.student import Student, policy_params
from scaling.distill.valset import ValSet, numbered
from scaling.students import model


def reference_losses(students: Sequence[Student], valset: ValSet) -> Float[np.ndarray, "R"]:
    """DESIGN's `val_loss` of students of one config on the validation set of another bank.

    Actions are compared in units of that bank's action scale; each student sees by its own statistics.
    """
    config = students[0].config
    names, numbers = numbered(valset.families)
    segments, place = np.unique(valset.segment, return_inverse=True)
    family = np.zeros(len(segments), np.int32)
    family[place] = numbers
    obs, start, label = (jnp.asarray(x) for x in (valset.obs, valset.start, valset.label))
    scale = jnp.asarray(valset.action_scale)

    def one(params: Any) -> Float[Array, "F"]:
        seen = Normaliser(params["mean"], params["std"])(obs)
        action = model.forward(config, params["params"], seen, start) * params["scale"]
        loss = smooth_l1(action / scale, label / scale)
        segment = jnp.broadcast_to(jnp.asarray(place, jnp.int32)[:, None], loss.shape)
        return by_family(loss, segment, jnp.asarray(family), len(names))

    return over_families(np.asarray(jax.jit(lambda params: jax.lax.map(one, params))(policy_params(students))))
