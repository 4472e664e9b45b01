"""Pretraining on reference motion alone, before any expert exists: what will the next frame be?

A robot that follows perfectly senses the reference itself; from those frames, the future hidden, the network predicts
how the sensed state changes. The trunk is then a student's first one; its action head is fresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.layout import AHEAD, entries
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, Inputs, Sensors, observation_dim, observe
from scaling.distill.auxiliary import change_loss
from scaling.distill.checkpoint import Rounds
from scaling.distill.student import Student
from scaling.distill.valset import MIN_STD
from scaling.errors import InputError
from scaling.experts.mesh import anyone
from scaling.memory import keep_freed_memory
from scaling.motion.corpus import Corpus
from scaling.record.hashing import content_hash
from scaling.record.progress import Progress, say
from scaling.record.stopping import Stopped, saving
from scaling.students import model
from scaling.students.config import StudentConfig
from scaling.students.count import parameters, training_flops_per_token
from scaling.tracking.reference import ClipStore, make_store, reference_at

SILENT = ("joint_error", "last_action", "orientation_error", *AHEAD)
"""Terms that are zero, or hidden, in all frames here: their weights stay as they were initialised."""
_DIM = observation_dim(STUDENT_TERMS)
_HEARD = np.ones(_DIM, np.float32)
for _name in SILENT:
    _HEARD[entries(_name)] = 0.0
_CHUNK, _CHUNK_FLOPS = 50, 5e11  # of one call, at most: seconds on any machine
_SPREAD = 4  # windows of each segment of `val`
_FRAMES = 4096  # at most, from which the normaliser is made


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining on `hours` of the `train` split (0: none), whichever arm a run has later.

    AdamW at `learning_rate` with a warm-up over a twentieth of the updates and a cosine to a hundredth; a batch has
    `batch` windows of `steps` frames.
    """

    hours: float = 0.0
    updates: int = 1000
    batch: int = 16
    steps: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("hours", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"pretrain {name} {getattr(self, name)}: at least 0")
        for name, least in (("updates", 1), ("batch", 1), ("steps", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"pretrain {name} {getattr(self, name)}: at least {least}")
        if self.learning_rate <= 0:
            raise ValueError(f"pretrain learning_rate {self.learning_rate}: above 0")


def chunk_of(student: StudentConfig, config: PretrainConfig, seeds: int) -> int:
    """Updates of one call for so many seeds: the fewer, the larger the network."""
    flops = seeds * config.batch * config.steps * training_flops_per_token(student)
    return max(1, min(_CHUNK, int(_CHUNK_FLOPS / flops)))


class Windows(NamedTuple):
    """Frames of a perfect follower: raw observations, and whether the frame after each is known."""

    obs: Float[Array, "B T obs"]
    known: Bool[Array, "B T-1"]


def choose(corpus: Corpus, hours: float, seed: int) -> ClipStore:
    """Segments of `train` in an order fixed by the seed, as many frames as asked: more hours hold the fewer.

    Raises InputError where the split has less.
    """
    train = np.random.default_rng([seed, 13]).permutation(corpus.indices("train"))
    budget = round(hours * 3600 * corpus.rate_hz)
    before = np.cumsum(corpus.length[train]) - corpus.length[train]
    if before[-1] + corpus.length[train][-1] < budget:
        raise InputError(f"pretrain.hours is {hours:g}; the training clips come to {corpus.hours(train):.3g}")
    length = np.minimum(corpus.length[train], budget - before)
    kept = length >= 3
    if not kept.any():
        raise InputError(f"pretrain.hours is {hours:g}; give at least three frames")
    return make_store(corpus.qpos, corpus.start[train][kept], length[kept])


def follower(store: ClipStore, clip: Int[Array, "*b"], frame: Int[Array, "*b"]) -> Float[Array, "*b obs"]:
    """What a robot would see that is where the reference is and has not acted."""
    reference = reference_at(store, clip, frame)
    sensors = Sensors(
        reference.qpos[..., 3:7], reference.qvel[..., 3:6], reference.qpos[..., 7:], reference.qvel[..., 6:]
    )
    return observe(STUDENT_TERMS, Inputs(sensors, reference, jnp.zeros_like(sensors.joint_pos)))


def windows(store: ClipStore, clip: Int[Array, "B"], first: Int[Array, "B"], steps: int) -> Windows:
    """`steps` frames of each clip from `first` on; a clip's last frame has no velocity, so none before it is asked."""
    frame = first[:, None] + jnp.arange(steps)
    obs = follower(store, jnp.broadcast_to(clip[:, None], frame.shape), frame)
    return Windows(obs, frame[:, :-1] + 2 < store.length[clip][:, None])


def next_frame_loss(
    student: StudentConfig, params: Any, normaliser: Normaliser, seen: Windows
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Loss of the predicted change, and of the guess that nothing changes."""
    _, change = model.forward_both(student, params, normaliser(seen.obs) * _HEARD)
    return (
        change_loss(change, seen.obs, seen.known),
        change_loss(jnp.zeros_like(change), seen.obs, seen.known),
    )


def pretrain(
    student: StudentConfig,
    corpus: Corpus,
    config: PretrainConfig,
    seeds: Sequence[int],
    order: int = 0,
    work: Path | None = None,
) -> list[Student]:
    """One pretrained network for each seed, all in one program; `order` fixes which hours.

    A network has a second head whether `student` does or not, and begins as a run of that seed would. Columns:
    `pretrain_hours`, `pretrain_flops`, `pretrain_loss` on frames of `val` and `pretrain_loss_still` of the guess that
    nothing changes. A training that was stopped goes on from its checkpoint in `work`. Raises InputError for more hours
    than there are, or a loss that is not finite.
    """
    keep_freed_memory()
    student = replace(student, auxiliary=student.auxiliary or 1.0)
    store = choose(corpus, config.hours, order)
    normaliser = _statistics(store)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), jnp.uint32(0)))(jnp.asarray(seeds))
    begin, advance = _programs(student, config)
    state = begin(keys)
    heads = jax.tree.map(np.asarray, state[0]["head"])
    title = f"pretraining {student.family} {parameters(student) / 1e6:.2g}M, {config.hours:g} h"
    chunk = chunk_of(student, config, len(seeds))
    starts = range(0, config.updates, chunk)
    taken = np.full((len(starts), len(seeds)), np.nan, np.float32)
    identity = content_hash([student, config, list(seeds), order, corpus.content_hash])
    kept = None if work is None else Rounds(work, identity)
    begun = 0 if kept is None else kept.latest()
    if kept is not None and begun:
        held = kept.restore(begun, {"state": jax.tree.map(np.asarray, state), "taken": taken})
        state, taken = jax.tree.map(jnp.asarray, held["state"]), np.array(held["taken"])
        say(f"{title}: resuming from update {starts[begun - 1] + chunk}")
    with Progress(title, config.updates) as bar, saving(kept is not None) as asked:
        for number in range(begun, len(starts)):
            first, last = starts[number], min(starts[number] + chunk, config.updates)
            state, losses = advance(state, keys, store, normaliser, jnp.arange(first, first + chunk))
            taken[number] = losses
            lost = [seeds[int(n)] for n in np.flatnonzero(~np.isfinite(taken[number]))]
            if lost:
                raise InputError(
                    f"{title}: between updates {first} and {last} the loss of seed {', '.join(map(str, lost))} is no "
                    "longer finite; lower pretrain.learning_rate"
                )
            bar.update(last, message=f"loss {taken[number].mean():.3f}")
            if kept is None:
                continue
            stopping = anyone(asked())
            if stopping or kept.due:
                kept.save(number + 1, {"state": jax.tree.map(np.asarray, state), "taken": taken})
            if stopping:
                raise Stopped
    params = {**jax.tree.map(np.asarray, state[0]), "head": heads}
    mine, still = _validate(student, state[0], normaliser, corpus, config.steps)
    tokens = config.updates * config.batch * config.steps
    shared = {"pretrain_hours": config.hours, "pretrain_flops": tokens * training_flops_per_token(student)}
    return [
        Student(
            student,
            jax.tree.map(lambda x, n=n: x[n], params),
            jax.tree.map(np.asarray, normaliser),
            np.ones(29, np.float32),
            {**shared, "pretrain_loss": float(mine[n]), "pretrain_loss_still": float(still[n])},
            [
                {"update": min(first + chunk, config.updates), "train_loss": float(losses[n])}
                for first, losses in zip(starts, taken, strict=True)
            ],
        )
        for n in range(len(seeds))
    ]


def transplanted(fresh: Any, pretrained: Student, student: StudentConfig, normaliser: Normaliser) -> Any:
    """`fresh` parameters of a student with the pretrained trunk, rewritten for the student's own `normaliser`.

    Where the `SILENT` entries are at their mean, it computes what it computed before; a second head is kept if the
    student has one. Raises ValueError for a network of another shape.
    """
    if replace(pretrained.config, auxiliary=student.auxiliary, dtype=student.dtype, remat=student.remat) != student:
        raise ValueError("the pretrained network is not of the student's shape")
    old, heard = pretrained.normaliser, _HEARD > 0
    ratio = np.where(heard, normaliser.std / old.std, 1.0)
    shift = np.where(heard, (normaliser.mean - old.mean) / old.std, 0.0)
    if student.seen is not None:
        ratio, shift = ratio[student.seen], shift[student.seen]
    kernel = np.asarray(pretrained.params["embed"]["kernel"])
    stacked = kernel.reshape(-1, student.input_dim, kernel.shape[1])  # the MLP's history before its entries
    embed = {
        "kernel": (stacked * ratio[:, None]).reshape(kernel.shape),
        "bias": pretrained.params["embed"]["bias"] + np.einsum("i,hiw->w", shift, stacked),
    }
    trunk = {name: part for name, part in pretrained.params.items() if name not in ("head", "auxiliary")}
    found = {**fresh, **trunk, "embed": embed}
    if student.auxiliary:
        found["auxiliary"] = pretrained.params["auxiliary"]
    return jax.tree.map(lambda x: np.asarray(x, np.float32), found)


def pretrain_columns(pretrained: Student | None) -> dict[str, Any]:
    """A row's part about what came before its run; without pretraining the hours are 0 and the rest is missing."""
    nothing = {"pretrain_hours": 0.0, "pretrain_flops": None, "pretrain_loss": None, "pretrain_loss_still": None}
    return nothing if pretrained is None else pretrained.columns


def _programs(student: StudentConfig, config: PretrainConfig) -> tuple[Any, Any]:
    """Jitted `begin(keys [R])`, and `advance(state, keys, store, normaliser, numbers)` -> (state, mean loss [R])."""
    warm = max(1, config.updates // 20)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warm, max(config.updates, warm + 1), 0.01 * config.learning_rate
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=config.weight_decay))

    def begin(key: Key[Array, ""]) -> tuple[Any, Any]:
        params = model.init(student, key)
        return params, optimiser.init(params)

    def update(
        key: Key[Array, ""], store: ClipStore, normaliser: Normaliser, state: tuple[Any, Any], number: Int[Array, ""]
    ) -> tuple[Any, Float[Array, ""]]:
        seen = _draw(jax.random.fold_in(key, number), store, config)
        loss_of = partial(next_frame_loss, student, normaliser=normaliser, seen=seen)
        (loss, _), grads = jax.value_and_grad(lambda params: loss_of(params=params), has_aux=True)(state[0])
        updates, moments = optimiser.update(grads, state[1], state[0])
        after = (optax.apply_updates(state[0], updates), moments)
        live = number < config.updates  # the last chunk may be longer than what is left
        return jax.tree.map(lambda a, b: jnp.where(live, a, b), after, state), jnp.where(live, loss, jnp.nan)

    def advance(
        state: tuple[Any, Any], key: Key[Array, ""], store: ClipStore, normaliser: Normaliser, numbers: Int[Array, "n"]
    ) -> tuple[Any, Float[Array, ""]]:
        state, losses = jax.lax.scan(partial(update, key, store, normaliser), state, numbers)
        return state, jnp.sum(jnp.where(numbers < config.updates, losses, 0.0)) / jnp.sum(numbers < config.updates)

    many = jax.vmap(advance, in_axes=(0, 0, None, None, None))
    return jax.jit(jax.vmap(begin)), jax.jit(many, donate_argnums=0)


def _draw(key: Key[Array, ""], store: ClipStore, config: PretrainConfig) -> Windows:
    """Clips by their length, and a place in each where a whole window fits, if it does."""
    which, where = jax.random.split(key)
    ends = jnp.cumsum(store.length)
    clip = jnp.searchsorted(ends, jax.random.randint(which, (config.batch,), 0, ends[-1]), side="right")
    room = jnp.maximum(store.length[clip] - config.steps, 0) + 1
    first = jax.random.randint(where, (config.batch,), 0, room)
    return windows(store, clip, first, config.steps)


def _statistics(store: ClipStore) -> Normaliser:
    """Of frames spread evenly over the clips, each before the last of its clip."""
    length, lengths = int(np.asarray(store.length).sum()), np.asarray(store.length)
    flat = np.unique(np.linspace(0, length - 1, _FRAMES).astype(int))
    clip = np.searchsorted(np.cumsum(lengths), flat, side="right")
    frame = np.minimum(flat - (np.cumsum(lengths) - lengths)[clip], lengths[clip] - 2)
    obs = np.asarray(jax.jit(follower)(store, clip, frame), np.float64)
    return Normaliser(
        jnp.asarray(obs.mean(axis=0), jnp.float32), jnp.asarray(np.maximum(obs.std(axis=0), MIN_STD), jnp.float32)
    )


def _validate(
    student: StudentConfig, params: Any, normaliser: Normaliser, corpus: Corpus, steps: int
) -> tuple[Float[np.ndarray, "R"], Float[np.ndarray, "R"]]:
    """Loss of each network, and of the guess that nothing changes, on windows spread over each `val` segment."""
    val = corpus.indices("val")
    clips = np.repeat(np.arange(len(val)), _SPREAD)
    share = np.tile((np.arange(_SPREAD) + 0.5) / _SPREAD, len(val))
    first = (share * np.maximum(corpus.length[val][clips] - steps, 0)).astype(np.int32)
    store = make_store(corpus.qpos, corpus.start[val], corpus.length[val])

    @jax.jit
    def losses(params: Any, store: ClipStore, clips: Array, first: Array) -> Any:
        seen = windows(store, clips, first, steps)
        return jax.vmap(lambda one: next_frame_loss(student, one, normaliser, seen))(params)

    mine, still = losses(params, store, clips, first)
    return np.asarray(mine), np.asarray(still)
