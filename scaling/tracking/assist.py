"""The virtual harness: a spring and damper from the pelvis to the reference, scaled by `assist` in [0, 1].

The spring and the reference's velocity act as a force held over the control step; the damper's other half,
against the robot's own velocity, is damping of the root joint in the model, because a damper that holds a
3.8 kg pelvis is stable only when integrated implicitly.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from scaling.robot.rotations import quat_conj, quat_mul, rotate, rotate_inverse, rotation_vector

# At assist 1 the springs alone nearly hold the robot: m g h is about 196 N m/rad.
LINEAR_STIFFNESS = 2000.0  # N/m
LINEAR_DAMPING = 400.0  # N s/m
ANGULAR_STIFFNESS = 400.0  # N m/rad
ANGULAR_DAMPING = 40.0  # N m s/rad
ROOT_DAMPING = np.array([LINEAR_DAMPING] * 3 + [ANGULAR_DAMPING] * 3)


def harness_force(
    assist: Float[Array, "*b"] | float,
    qpos: Float[Array, "*b 36"],
    reference_qpos: Float[Array, "*b 36"],
    reference_qvel: Float[Array, "*b 35"],
) -> Float[Array, "*b 35"]:
    """Generalised force on the free joint: world force (N), then body-frame torque (N m); zero on the joints."""
    quat, reference_quat = qpos[..., 3:7], reference_qpos[..., 3:7]
    linear = LINEAR_STIFFNESS * (reference_qpos[..., :3] - qpos[..., :3])
    linear = linear + LINEAR_DAMPING * reference_qvel[..., :3]
    turn = rotation_vector(quat_mul(quat_conj(quat), reference_quat))
    spin = rotate_inverse(quat, rotate(reference_quat, reference_qvel[..., 3:6]))
    angular = ANGULAR_STIFFNESS * turn + ANGULAR_DAMPING * spin
    root = jnp.concatenate([linear, angular], axis=-1) * jnp.asarray(assist)[..., None]
    return jnp.concatenate([root, jnp.zeros((*root.shape[:-1], 29), root.dtype)], axis=-1)
