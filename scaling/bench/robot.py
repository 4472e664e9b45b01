"""Forward kinematics: our batched array code beside MuJoCo's C, pose by pose, and how far apart they are."""

from collections.abc import Iterator

import mujoco
import numpy as np

from scaling.bench.row import Row
from scaling.record.timing import medians
from scaling.robot.g1 import RANGE_HIGH, RANGE_LOW
from scaling.robot.kinematics import forward_kinematics
from scaling.robot.model import build_model
from scaling.robot.rotations import angle_between

MASS_KG = 33.34


def rows(quick: bool) -> Iterator[Row]:
    """Poses a second, their ratio, and the largest error."""
    poses = 1024 if quick else 8192
    rng = np.random.default_rng(0)
    qpos = np.concatenate(
        [rng.normal(size=(poses, 7)), rng.uniform(RANGE_LOW, RANGE_HIGH, (poses, len(RANGE_LOW)))], axis=1
    )
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    model = build_model()
    data = mujoco.MjData(model)
    position, quat = np.empty((poses, model.nbody - 1, 3)), np.empty((poses, model.nbody - 1, 4))

    def by_mujoco() -> None:
        for index, pose in enumerate(qpos):
            data.qpos[:] = pose
            mujoco.mj_kinematics(model, data)
            position[index], quat[index] = data.xpos[1:], data.xquat[1:]

    took = medians({"ours": lambda: forward_kinematics(qpos), "mujoco": by_mujoco}, repeats=5 if quick else 11)
    yield Row("fk_numpy", poses / took["ours"], "poses/s")
    yield Row("fk_mujoco", poses / took["mujoco"], "poses/s")
    yield Row("fk_numpy_speedup", took["mujoco"] / took["ours"], "x", ratio_to="fk_mujoco")
    if not quick:
        yield from _by_jax(qpos, took["ours"] / poses)
    found_position, found_quat = forward_kinematics(qpos)
    error = np.linalg.norm(found_position - position, axis=-1).max()
    turn = angle_between(found_quat, quat).max()
    yield Row("fk_position_error", float(error), "m", target=1e-6, higher_is_better=False)
    yield Row("fk_rotation_error", float(turn), "rad", target=1e-6, higher_is_better=False)
    off = abs(float(mujoco.mj_getTotalmass(model)) - MASS_KG)
    yield Row("mass_error", off, "kg", target=0.01, higher_is_better=False)


def _by_jax(qpos: np.ndarray, numpy_seconds: float) -> Iterator[Row]:
    """The same code compiled by XLA, float32."""
    import jax
    import jax.numpy as jnp

    run = jax.jit(forward_kinematics)
    device = jnp.asarray(qpos, jnp.float32)
    took = medians({"jax": lambda: jax.block_until_ready(run(device))}, repeats=11)["jax"] / len(qpos)
    yield Row("fk_jax", 1.0 / took, "poses/s")
    yield Row("fk_jax_speedup", numpy_seconds / took, "x", ratio_to="fk_numpy")
