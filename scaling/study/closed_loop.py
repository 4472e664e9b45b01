"""Students, experts and open-loop playback on the same starts in converged C MuJoCo: closed-loop columns of rows."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from scaling.distill.slots import Seat, label, lay_out
from scaling.distill.student import Student, policy, policy_params
from scaling.experts.bank import Bank
from scaling.record.progress import Progress
from scaling.robot.model import CONVERGED
from scaling.study.config import ClosedLoopConfig
from scaling.tracking.evaluate import Policy, Trace, make_player, random_starts, scores
from scaling.tracking.intervals import wilson
from scaling.tracking.physics import CPhysics
from scaling.tracking.reference import ClipStore
from scaling.tracking.scores import METRICS, SUCCESS, judged

TEACHERS = ("experts", "open_loop")
QUANTITIES = ("survival_s", "mpjpe_l_mm", "mpjpe_rad")
_FIELDS = {"survival_s": "seconds"}


def play_students(
    students: Sequence[Student],
    store: ClipStore,
    clips: Int[np.ndarray, "m"],
    assist: float,
    config: ClosedLoopConfig,
) -> list[dict[str, Any]]:
    """Columns of each student on the same starts over `clips`, at `assist` and (with a suffix) at 0."""
    family = students[0].config.family
    return _play(
        policy(students[0].config), policy_params(students), len(students), store, clips, assist, config, family
    )


def play_teachers(
    bank: Bank,
    labels: Int[np.ndarray, "S"],
    store: ClipStore,
    clips: Int[np.ndarray, "m"],
    assist: float,
    config: ClosedLoopConfig,
) -> dict[str, dict[str, Any]]:
    """Columns of the experts (each clip by that of its cluster) and of open-loop playback, on the students' starts."""
    chosen = np.asarray(_starts(store, clips, config).clip)
    seats = lay_out([[Seat(int(labels[clip]), np.array([clip]), np.ones(1)) for clip in chosen]], bank.experts).seats
    # A bank of zeros acts zero, which is open-loop playback.
    silent = jax.tree.map(jnp.zeros_like, bank)._replace(normaliser=bank.normaliser)
    both = jax.tree.map(lambda *x: jnp.stack(x), (bank, seats), (silent, seats))
    found = _play(_BANK, both, len(TEACHERS), store, clips, assist, config, f"{bank.experts} experts")
    return dict(zip(TEACHERS, found, strict=True))


def merged(by_split: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row of columns from those of each split; all but `val` bear its name in front."""
    rows: list[dict[str, Any]] = [{} for _ in next(iter(by_split.values()))]
    for split, columns in by_split.items():
        for row, found in zip(rows, columns, strict=True):
            row |= {_named(split, name): value for name, value in found.items()}
    return rows


def beside_teachers(
    row: Mapping[str, Any], played: Mapping[str, Mapping[str, Mapping[str, Any]]], protocols: Sequence[str]
) -> dict[str, Any]:
    """What experts and playback reach on each split, and the student's gap to the experts (positive: it is better).

    `played[split][teacher]` are columns of `play_teachers`, by the same `protocols`. An error's gap is missing where
    either has none.
    """
    compared = {column for number in range(len(protocols)) for column in columns_of(protocols, number)}
    found: dict[str, Any] = {}
    for split, teachers in played.items():
        for who, columns in teachers.items():
            found |= {_named(split, f"{who}_{name}"): value for name, value in columns.items()}
        for name, theirs in teachers["experts"].items():
            if name.removesuffix("_assist0") not in compared:
                continue
            mine = row.get(_named(split, name))
            sign = 1.0 if name.startswith(("success", "survival")) else -1.0
            gap = None if mine is None or theirs is None else sign * (mine - theirs)
            found[_named(split, f"gap_{name}")] = gap
    return found


def closed_loop_rows(rows: Sequence[Mapping[str, Any]], splits: Sequence[str]) -> list[dict[str, Any]]:
    """Who, on which split, at which assist: the experts and playback of each bank, then the students."""
    taught = {row["clusters"]: row for row in rows if row["clusters"] is not None}
    found = []
    for split in splits:
        for k, row in taught.items():
            found += [_line(row, split, zero, f"{who}_", f"{who} K={k}") for who in TEACHERS for zero in _levels(row)]
        found += [_line(row, split, zero, "", row["run"]) for row in rows for zero in _levels(row)]
    return [line for line in found if line["survival_s"] is not None]


def _levels(row: Mapping[str, Any]) -> tuple[str, ...]:
    return ("", "_assist0") if row["assist"] else ("",)


def _line(row: Mapping[str, Any], split: str, suffix: str, who: str, name: str) -> dict[str, Any]:
    line = {"who": name, "split": split, "assist": 0.0 if suffix else row["assist"]}
    others = [protocol for protocol in SUCCESS if protocol != row["protocol"] and SUCCESS[protocol] in row]
    protocols = (row["protocol"], *others)
    for number, protocol in enumerate(protocols):
        success = SUCCESS[protocol]
        bounds = [f"{success}_{end}" for end in ("low", "high")]
        for column in (success, *bounds, *list(columns_of(protocols, number))[1:]):
            line[column] = row.get(_named(split, f"{who}{column}{suffix}"))
    return line


def columns_of(protocols: Sequence[str], number: int) -> dict[str, str]:
    """Column -> field of `Scores` by one of the protocols, its success first; the first has the plain names.

    A name that does not say whose it is bears a further protocol's at its end, as `success_hgpt` does.
    """
    protocol = protocols[number]
    own = "_" + SUCCESS[protocol].removeprefix("success_")
    quantities = (*QUANTITIES, *METRICS[protocol]) if number == 0 else ("survival_s", *METRICS[protocol])
    columns = {SUCCESS[protocol]: "success"}
    for name in quantities:
        column = name if number == 0 or own in name else name + own
        columns[column] = _FIELDS.get(name, name)
    return columns


def _named(split: str, column: str) -> str:
    return column if split == "val" else f"{split}_{column}"


def _ask(params: Any, state: Any, obs: jax.Array, first: jax.Array) -> tuple[jax.Array, Any]:
    bank, seats = params
    return label(bank, seats, obs[None, :, None])[0, :, 0], state


_BANK = Policy(init=lambda batch: (), act=_ask)


@lru_cache(maxsize=8)
def _player(act: Policy, protocols: tuple[str, ...]) -> Any:
    """One program for all splits and banks of a process."""
    return make_player(_physics(), act, protocols[0], batched_params=True, also=protocols[1:])


@lru_cache(maxsize=1)
def _physics() -> CPhysics:
    return CPhysics(CONVERGED)


def _starts(store: ClipStore, clips: Int[np.ndarray, "m"], config: ClosedLoopConfig) -> Any:
    return random_starts(store, clips, config.starts, round(config.seconds * 50), seed=11)


def _play(
    act: Policy,
    params: Any,
    count: int,
    store: ClipStore,
    clips: Int[np.ndarray, "m"],
    assist: float,
    config: ClosedLoopConfig,
    title: str,
) -> list[dict[str, Any]]:
    """Columns of `count` policies (parameters stacked)."""
    starts = _starts(store, clips, config)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), starts)
    play = _player(act, config.protocols)
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    levels = {assist: ""} | {0.0: "_assist0"} if assist else {0.0: ""}
    with Progress(f"closed loop, {title}", len(levels)) as progress:
        for done, (level, suffix) in enumerate(levels.items()):
            progress.update(done, message=f"assist {level:g}")
            trace = play(params, store, many, jnp.asarray(level, jnp.float32), round(config.seconds * 50))
            for index, row in enumerate(rows):
                row |= _columns(jax.tree.map(lambda x, index=index: x[index], trace), config.protocols, suffix)
            progress.update(done + 1)
    return rows


def _columns(trace: Trace, protocols: Sequence[str], suffix: str) -> dict[str, Any]:
    """One play as each protocol judges it."""
    found: dict[str, Any] = {}
    for number, protocol in enumerate(protocols):
        result = scores(judged(trace, number))
        success = wilson(result.success)
        found |= {
            f"{SUCCESS[protocol]}{suffix}": success.value,
            f"{SUCCESS[protocol]}_low{suffix}": success.low,
            f"{SUCCESS[protocol]}_high{suffix}": success.high,
        }
        for column, field in list(columns_of(protocols, number).items())[1:]:
            found[f"{column}{suffix}"] = _mean(getattr(result, field))
    return found


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
