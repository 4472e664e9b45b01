"""The error card: how far a learned simulator departs from the true one, beside baselines that learned nothing."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from scaling.dynamics.data import Transitions, Window, gather, window_starts
from scaling.dynamics.model import Dream, ModelConfig, predict, unroll
from scaling.dynamics.soles import sole_motion
from scaling.dynamics.state import integrate, velocity_change
from scaling.errors import InputError
from scaling.robot.g1 import GROUPS
from scaling.robot.model import CONTROL_DT
from scaling.robot.rotations import angle_between, normalise, quat_conj, quat_mul, rotate, rotate_inverse, yaw_quat
from scaling.tracking.physics import PhysicsState
from scaling.tracking.reference import ClipStore, frame_at

HORIZONS = (1, 8, 32)
CONTACT_HEIGHT = 0.005  # m of the lowest sole sphere above the floor: higher than this the robot is airborne
PREDICTORS = ("model", "nothing changes", "velocity unchanged", "reference velocities")
_BATCH = 1024


@dataclass(frozen=True)
class Card:
    """Held-out errors. `states`: all | contact | airborne, by the lowest sole at the start of the window.

    `r2`: states -> group -> explained share of the one-step local velocity change, pooled over the group.
    `errors`: one row for each horizon, states and predictor: windows, and mean errors after the horizon's last step.
    A figure that no window supports is None.
    """

    transitions: int
    failed_share: float
    r2: dict[str, dict[str, float | None]]
    errors: list[dict[str, Any]]


def measure(
    model: ModelConfig,
    dream: Dream,
    data: Transitions,
    store: ClipStore,
    horizons: tuple[int, ...] = HORIZONS,
    most: int = 8192,
    seed: int = 0,
) -> Card:
    """The card on held-out transitions, whose clip and frame are those of `store`.

    Windows (at most `most` per horizon) hold only episodes that last the horizon. Raises InputError for a model that
    gives non-finite states.
    """
    rng = np.random.default_rng(seed)
    found = {width: window_starts(data, width) for width in horizons}
    data = jax.tree.map(jnp.asarray, data)
    rows = []
    for width, starts in found.items():
        chosen = rng.permutation(starts)[:most]
        parts = [
            _horizon_errors(model, width, dream, data, store, jnp.asarray(part)) for part in _batches(chosen, _BATCH)
        ]
        errors, airborne = jax.tree.map(lambda *x: np.concatenate([np.asarray(y) for y in x]), *parts)
        for states, mask in _split(airborne).items():
            for predictor in PREDICTORS:
                row: dict[str, Any] = {"horizon": width, "states": states, "predictor": predictor}
                row["windows"] = int(mask.sum())
                for name, values in errors[predictor].items():
                    row[name] = float(values[mask].mean()) if mask.any() else None
                rows.append(row)
    bad = next((row for row in rows if row["predictor"] == "model" and not _finite(row)), None)
    if bad:
        raise InputError(
            f"the model's error over {bad['horizon']} steps is not finite: train it on shorter windows first, "
            "or at a lower learning rate"
        )
    return Card(
        transitions=len(data.ends),
        failed_share=float(np.mean(np.asarray(data.failed))),
        r2=_explained(model, dream, data, rng.permutation(window_starts(data, 1))[: 4 * most]),
        errors=rows,
    )


def text(card: Card) -> str:
    """The card as a table for people."""
    lines = [f"{card.transitions} held-out transitions, {100 * card.failed_share:.0f} % after a failure"]
    lines.append("R2 of the velocity change".ljust(26) + "".join(group.rjust(14) for group in GROUPS))
    for states, groups in card.r2.items():
        lines.append(f"  {states}".ljust(26) + "".join(_number(groups[group], 3).rjust(14) for group in GROUPS))
    names = [name for name in card.errors[0] if name not in ("horizon", "states", "predictor", "windows")]
    lines.append("steps  states    windows  predictor".ljust(48) + "".join(name.rjust(17) for name in names))
    for row in card.errors:
        head = f"{row['horizon']:5d}  {row['states']:8s}  {row['windows']:7d}  {row['predictor']}"
        lines.append(head.ljust(48) + "".join(_number(row[name], 4).rjust(17) for name in names))
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _finite(row: dict[str, Any]) -> bool:
    return all(np.isfinite(value) for value in row.values() if isinstance(value, float))


def _split(airborne: Bool[np.ndarray, "n"]) -> dict[str, np.ndarray]:
    return {"all": np.ones_like(airborne), "contact": ~airborne, "airborne": airborne}


def _batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _airborne(state: PhysicsState) -> Bool[Array, "*b"]:
    return jnp.min(sole_motion(state)[0], axis=(-1, -2)) > CONTACT_HEIGHT


@partial(jax.jit, static_argnums=(0, 1))
def _horizon_errors(
    model: ModelConfig, width: int, dream: Dream, data: Transitions, store: ClipStore, starts: Array
) -> tuple[dict[str, dict[str, Array]], Array]:
    window = gather(data, starts, width)
    truth = jax.tree.map(lambda x: x[:, -1], window.target)
    guesses = {
        "model": jax.tree.map(lambda x: x[:, -1], unroll(model, dream, window.start, window.ctrl)),
        "nothing changes": window.start,
        "velocity unchanged": integrate(window.start, jnp.zeros_like(window.start.qvel), dt=width * CONTROL_DT),
        "reference velocities": _moved_as_reference(store, data, starts, window, width),
    }
    return {name: _distance(guess, truth) for name, guess in guesses.items()}, _airborne(window.start)


def _moved_as_reference(store: ClipStore, data: Transitions, starts: Array, window: Window, width: int) -> PhysicsState:
    """The start moved as the reference moves meanwhile: root in the robot's own heading, joints by difference."""
    before, _ = frame_at(store, data.clip[starts], data.frame[starts])
    after, velocity = frame_at(store, data.clip[starts], data.frame[starts] + width)
    qpos = window.start.qpos
    heading = quat_mul(yaw_quat(qpos[:, 3:7]), quat_conj(yaw_quat(before[:, 3:7])))
    turn = quat_mul(quat_conj(before[:, 3:7]), after[:, 3:7])
    quat = normalise(quat_mul(qpos[:, 3:7], turn))
    return PhysicsState(
        jnp.concatenate(
            [
                qpos[:, :3] + rotate(heading, after[:, :3] - before[:, :3]),
                quat,
                qpos[:, 7:] + after[:, 7:] - before[:, 7:],
            ],
            axis=-1,
        ),
        jnp.concatenate([rotate(heading, velocity[:, :3]), velocity[:, 3:]], axis=-1),
    )


def _distance(guess: PhysicsState, truth: PhysicsState) -> dict[str, Array]:
    """Root: norms; joints: means over the 29."""
    linear = rotate_inverse(truth.qpos[:, 3:7], guess.qvel[:, :3] - truth.qvel[:, :3])
    return {
        "root_m": jnp.linalg.norm(guess.qpos[:, :3] - truth.qpos[:, :3], axis=-1),
        "root_rad": angle_between(guess.qpos[:, 3:7], truth.qpos[:, 3:7]),
        "joints_rad": jnp.mean(jnp.abs(guess.qpos[:, 7:] - truth.qpos[:, 7:]), axis=-1),
        "root_m_s": jnp.linalg.norm(linear, axis=-1),
        "root_rad_s": jnp.linalg.norm(guess.qvel[:, 3:6] - truth.qvel[:, 3:6], axis=-1),
        "joints_rad_s": jnp.mean(jnp.abs(guess.qvel[:, 6:] - truth.qvel[:, 6:]), axis=-1),
    }


@partial(jax.jit, static_argnums=0)
def _changes(model: ModelConfig, dream: Dream, data: Transitions, part: Array) -> tuple[Array, Array, Array]:
    rows = jax.tree.map(lambda x: x[part], data)
    guess, _ = predict(model, dream, rows.before, rows.ctrl)
    return guess, velocity_change(rows.before, rows.after), _airborne(rows.before)


def _explained(
    model: ModelConfig, dream: Dream, data: Transitions, starts: np.ndarray
) -> dict[str, dict[str, float | None]]:
    parts = [_changes(model, dream, data, jnp.asarray(part)) for part in _batches(starts, _BATCH)]
    guess, truth, airborne = jax.tree.map(lambda *x: np.concatenate([np.asarray(y, np.float64) for y in x]), *parts)
    return {
        states: {group: _r2(guess[mask][:, where], truth[mask][:, where]) for group, where in GROUPS.items()}
        for states, mask in _split(airborne.astype(bool)).items()
    }


def _r2(guess: np.ndarray, truth: np.ndarray) -> float | None:
    if len(truth) < 2:
        return None
    total = float(np.sum((truth - truth.mean(axis=0)) ** 2))
    return 1.0 - float(np.sum((guess - truth) ** 2)) / total if total > 0 else None
