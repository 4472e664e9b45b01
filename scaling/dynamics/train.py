"""Training of the learned simulator: a loss over windows, its terms balanced at the start, one scan of updates."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from scaling.dynamics.data import Transitions, Window, gather, window_starts
from scaling.dynamics.model import DEFAULT, Dream, ModelConfig, Scales, init, measure_scales, unroll
from scaling.errors import InputError
from scaling.record.progress import Progress
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import quat_conj, quat_mul, rotate_inverse, rotation_vector
from scaling.tracking.physics import PhysicsState

_CHUNK = 50  # updates between two looks at the loss

OPTIMISERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "muon": optax.contrib.muon,
    "radam": optax.radam,
}


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained: `updates` batches of windows of `window` control steps, learning rate falling to 0.

    `huber` is where an error (in standard deviations of one step's change) stops counting squared.
    """

    window: int = 8
    updates: int = 2000
    batch: int = 1024
    learning_rate: float = 1e-3
    optimiser: str = "radam"
    gradient_norm: float = 1.0
    cotangent_limit: float | None = None
    huber: float = 1.0
    balanced: bool = True

    def __post_init__(self) -> None:
        for name in ("window", "updates", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser {self.optimiser!r}: one of {sorted(OPTIMISERS)}")
        for name in ("learning_rate", "gradient_norm", "huber", "cotangent_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value}: must be above 0")


class Trained(NamedTuple):
    """A trained model, and of each update the loss (1 at the start when balanced) and the gradient's norm."""

    dream: Dream
    loss: Float[np.ndarray, "updates"]
    gradient_norm: Float[np.ndarray, "updates"]


def terms(
    scales: Scales, predicted: PhysicsState, target: PhysicsState, huber: float, weight: Array | float = 1.0
) -> dict[str, Array]:
    """The (weighted) mean error of each part of the state, in standard deviations of one control step's change."""
    quat = target.qpos[..., 3:7]
    change = predicted.qvel - target.qvel
    shift = rotate_inverse(quat, predicted.qpos[..., :3] - target.qpos[..., :3])
    turn = rotation_vector(quat_mul(quat_conj(quat), predicted.qpos[..., 3:7]))
    std, moved = scales.change_std, CONTROL_DT * scales.change_std
    errors = {
        "root_linear": rotate_inverse(quat, change[..., :3]) / std[:3],
        "root_angular": change[..., 3:6] / std[3:6],
        "joint_velocity": change[..., 6:] / std[6:],
        "root_position": shift / moved[:3],
        "root_rotation": turn / moved[3:6],
        "joint_position": (predicted.qpos[..., 7:] - target.qpos[..., 7:]) / moved[6:],
    }
    share = jnp.broadcast_to(jnp.asarray(weight), quat.shape[:-1])[..., None] / jnp.maximum(jnp.mean(weight), 1e-6)
    return {name: jnp.mean(share * optax.huber_loss(error, delta=huber)) for name, error in errors.items()}


def losses(model: ModelConfig, config: TrainConfig, dream: Dream, window: Window) -> dict[str, Array]:
    """`terms` over a batch of windows, every step of the window counting alike."""
    predicted = unroll(model, dream, window.start, window.ctrl, config.cotangent_limit)
    return terms(dream.scales, predicted, window.target, config.huber, window.weight)


def train(
    key: Key[Array, ""],
    data: Transitions,
    config: TrainConfig = TrainConfig(),
    model: ModelConfig = DEFAULT,
    start: Dream | None = None,
    title: str = "dynamics",
) -> Trained:
    """A model of the transitions' robot; `start` goes on from another (a longer window, fresh transitions).

    Raises InputError for transitions without a failure or without a whole window, and for a loss that is not finite.
    """
    if not np.asarray(data.failed).any():
        raise InputError(
            f"no failure in {len(data.failed)} transitions: a model that never saw a fall is trusted in one; "
            "collect with more noise or for longer"
        )
    starts = jnp.asarray(window_starts(data, config.window))
    data = jax.tree.map(jnp.asarray, data)
    init_key, first_key, key = jax.random.split(key, 3)
    if start is None:
        rows = jnp.asarray(window_starts(data, 1))
        one = jax.tree.map(lambda x: x[rows], data)
        start = init(model, init_key, measure_scales(model, one.before, one.ctrl, one.after))
    first = gather(data, _draw(first_key, starts, config.batch), config.window)
    weights = _weights(model, config, start, first)
    params, scales = start
    moments = _optimiser(config).init(params)
    curve: list[tuple[np.ndarray, np.ndarray]] = []
    with Progress(title, total=config.updates) as progress:
        progress.update(0)
        for done in range(0, config.updates, _CHUNK):
            length = min(_CHUNK, config.updates - done)
            keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(done + jnp.arange(length))
            params, moments, seen = _updates(model, config, params, moments, scales, weights, data, starts, keys)
            curve.append(jax.tree.map(np.asarray, seen))
            _check_finite(curve[-1][0], done)
            progress.update(done + length, message=f"loss {curve[-1][0].mean():.4f}")
    loss, norm = (np.concatenate(column) for column in zip(*curve, strict=True))
    return Trained(Dream(params, scales), loss, norm)


def _check_finite(loss: Float[np.ndarray, "n"], done: int) -> None:
    bad = np.flatnonzero(~np.isfinite(loss))
    if len(bad):
        raise InputError(f"the model's error is not finite at update {done + bad[0] + 1}: lower the learning rate")


def _draw(key: Key[Array, ""], starts: Int[Array, "n"], batch: int) -> Int[Array, "batch"]:
    return starts[jax.random.randint(key, (batch,), 0, starts.shape[0])]


def _optimiser(config: TrainConfig) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    return optax.chain(optax.clip_by_global_norm(config.gradient_norm), OPTIMISERS[config.optimiser](rate))


@partial(jax.jit, static_argnums=(0, 1))
def _weights(model: ModelConfig, config: TrainConfig, dream: Dream, window: Window) -> dict[str, Array]:
    """What makes all terms equal, and their sum 1, on the first batch."""
    found = losses(model, config, dream, window)
    share = 1.0 / len(found)
    if not config.balanced:
        return {name: jnp.asarray(share) for name in found}
    return {name: share / jnp.maximum(value, 1e-6) for name, value in found.items()}


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3,))
def _updates(
    model: ModelConfig,
    config: TrainConfig,
    params: Any,
    moments: Any,
    scales: Scales,
    weights: dict[str, Array],
    data: Transitions,
    starts: Int[Array, "n"],
    keys: Key[Array, "u"],
) -> tuple[Any, Any, tuple[Array, Array]]:
    optimiser = _optimiser(config)

    def total(params: Any, window: Window) -> Array:
        found = losses(model, config, Dream(params, scales), window)
        return sum((weights[name] * value for name, value in found.items()), jnp.zeros(()))

    def update(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
        params, moments = carry
        window = gather(data, _draw(key, starts, config.batch), config.window)
        loss, grads = jax.value_and_grad(total)(params, window)
        change, moments = optimiser.update(grads, moments, params)
        return (optax.apply_updates(params, change), moments), (loss, optax.tree.norm(grads))

    (params, moments), seen = jax.lax.scan(update, (params, moments), keys)
    return params, moments, seen
