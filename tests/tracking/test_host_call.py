"""Host functions in compiled programs: right, loud, and kept in the compilation cache."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.robot.model import CONVERGED, STANDARD
from scaling.tracking import host_call
from scaling.tracking.physics import CPhysics

PROGRAM = """
import jax, jax.numpy as jnp
from scaling.tracking.physics import CPhysics, PhysicsState
from scaling.robot.g1 import standing_qpos
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
physics = CPhysics()
qpos = jnp.tile(jnp.asarray(standing_qpos(), jnp.float32), (3, 1))

@jax.jit
def hundred_ms(qpos):
    def step(state, _):
        return physics.step(state, qpos[:, 7:], jnp.zeros((3, 35)), jnp.zeros(3), jnp.zeros(3, int)), None
    return jax.lax.scan(step, PhysicsState(qpos, jnp.zeros((3, 35))), None, length=5)[0]

lowered = hundred_ms.lower(qpos)
hits.clear()
program = lowered.compile()
print(len(hits), [f"{value:.9g}" for value in program(qpos).qpos[2].tolist()])
"""


def scaled(x: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, ...]:
    return x * 2 + whole[..., None], whole + 1


def call(x: jax.Array, whole: jax.Array) -> tuple[jax.Array, ...]:
    shapes = (jax.ShapeDtypeStruct(x.shape, jnp.float32), jax.ShapeDtypeStruct(whole.shape, jnp.int32))
    return host_call.host_call(7, scaled, shapes, x, whole)


@pytest.mark.parametrize("named", [True, False])
def test_a_function_of_numpy_arrays_inside_a_program_mapped_or_not(
    named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not named:
        monkeypatch.setattr(host_call, "_registered", lambda: False)
    x, whole = jnp.arange(24.0).reshape(2, 4, 3), jnp.arange(8).reshape(2, 4)
    wanted = scaled(np.asarray(x), np.asarray(whole))
    for found in (jax.jit(call)(x, whole), jax.jit(jax.vmap(call))(x, whole)):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    empty = jax.jit(call)(jnp.zeros((0, 3)), jnp.zeros((0,), jnp.int32))
    assert empty[0].shape == (0, 3)


def test_this_jax_takes_the_handler() -> None:
    assert host_call._registered()
    text = jax.jit(call).lower(jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)).as_text()
    assert "scaling_host_call" in text and "callback" not in text


def test_what_the_function_raises_ends_the_program() -> None:
    def fails(x: np.ndarray) -> tuple[np.ndarray, ...]:
        raise ValueError("no such robot")

    with pytest.raises(jax.errors.JaxRuntimeError, match="ValueError: no such robot"):
        jax.block_until_ready(
            jax.jit(lambda x: host_call.host_call(8, fails, (jax.ShapeDtypeStruct(x.shape, x.dtype),), x))(jnp.ones(3))
        )


def test_number_is_of_what_the_physics_computes() -> None:
    assert CPhysics()._number == CPhysics(STANDARD)._number != CPhysics(CONVERGED)._number


def test_a_second_process_finds_the_program_in_the_cache(tmp_path: Path) -> None:
    env = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    said = []
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, check=True)
        said.append(run.stdout.splitlines()[-1].split(maxsplit=1))
    (first, positions), (second, again) = said
    assert (first, second) == ("0", "1")
    assert positions == again and "nan" not in positions
