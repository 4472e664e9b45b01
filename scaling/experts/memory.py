"""What a dreamed expert remembers: the last control steps of each environment, in a ring along time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from scaling.dynamics.data import Transitions
from scaling.tracking.episode import select


def empty(rows: Transitions, size: int) -> Transitions:
    """A ring of `size` steps for steps like these [T, E, ...]."""
    return jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), rows)


def written(memory: Transitions, rows: Transitions, at: Int[Array, ""] | int) -> Transitions:
    """The ring with these steps [T, E, ...] from column `at` on."""
    return jax.tree.map(lambda ring, new: jax.lax.dynamic_update_slice_in_dim(ring, new, at, 0), memory, rows)


def finite(rows: Transitions) -> tuple[Transitions, Bool[Array, "*b"]]:
    """Steps whose outcome is not finite end where they began; and which were finite."""
    fine = jnp.all(jnp.isfinite(jnp.concatenate(rows.after, axis=-1)), axis=-1)
    qpos, qvel = select(fine, tuple(rows.after), tuple(rows.before))
    return rows._replace(next_qpos=qpos, next_qvel=qvel), fine


def stretches(
    key: Key[Array, ""], memory: Transitions, end: Int[Array, ""], reach: Int[Array, ""] | int, batch: int, width: int
) -> tuple[Transitions, Bool[Array, "B W"]]:
    """`batch` stretches of `width` steps among the `reach` steps before column `end`, and which steps are finite.

    A stretch may run on into the next episode.
    """
    size, envs = memory.ends.shape
    env_key, time_key = jax.random.split(key)
    env = jax.random.randint(env_key, (batch,), 0, envs)
    first = jax.random.randint(time_key, (batch, 1), 0, reach - width + 1)
    time = (end - reach + first + jnp.arange(width)) % size  # below 0 it stands at the ring's end
    return finite(jax.tree.map(lambda x: x[time, env[:, None]], memory))


def belongs(rows: Transitions, fine: Bool[Array, "B W"]) -> Bool[Array, "B W"]:
    """Which steps of each stretch are of the episode that it begins in, with nothing but finite steps before them."""
    before = jnp.concatenate([jnp.zeros((rows.ends.shape[0], 1), bool), rows.ends[:, :-1]], axis=1)
    return jnp.cumsum(before | ~fine, axis=1) == 0
