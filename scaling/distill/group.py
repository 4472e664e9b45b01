"""A group of runs of one student: what its programs read, and the programs themselves, compiled once for all runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from scaling.contract.normaliser import Normaliser
from scaling.distill import update
from scaling.distill.auxiliary import make_val_auxiliary
from scaling.distill.config import DaggerConfig
from scaling.distill.mesh import Layout
from scaling.distill.pretrain import transplanted
from scaling.distill.rollout import (
    STUDENT_OBS,
    Actors,
    Episodes,
    Frozen,
    Noise,
    Sequences,
    Stage,
    make_rollout,
    make_world,
)
from scaling.distill.slots import Seat, Slots, alike, seat_clusters, seat_segments, stack_banks
from scaling.distill.student import Student
from scaling.distill.valset import ValSet, numbered
from scaling.errors import InputError
from scaling.experts.bank import Bank
from scaling.motion.corpus import Corpus
from scaling.record.hashing import content_hash
from scaling.students.config import StudentConfig
from scaling.tracking.env import Task
from scaling.tracking.physics import CPhysics, Physics
from scaling.tracking.reference import ClipStore, make_store


@dataclass(frozen=True)
class Teacher:
    """A bank, the expert of every segment of the corpus (`labels`), and the bank's validation set."""

    bank: Bank
    labels: Int[np.ndarray, "S"]
    valset: ValSet


@dataclass(frozen=True)
class RunSpec:
    """One run of a group: its arm (indices of `train` segments), its seed, and which of the group's teachers it has.

    `rate` multiplies the config's learning rate; the run begins with the trunk of `pretrained` where there is one.
    """

    name: str
    segments: Int[np.ndarray, "m"]
    seed: int
    teacher: int = 0
    rate: float = 1.0
    pretrained: Student | None = None


class Group:
    """R runs of one student of differing arm, seed and teacher; a run draws the same in any group of as many slots."""

    def __init__(
        self,
        student: StudentConfig,
        runs: Sequence[RunSpec],
        teachers: Sequence[Teacher],
        corpus: Corpus,
        physics: Physics,
        config: DaggerConfig,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Updates are spread over `devices` (all). Where each device of one process has runs of its own it acts for
        them, unless physics is computed on the host; else every process acts for all runs on a device of its own.

        Raises InputError for an empty arm, a segment that is not `train`, or a student of other observations.
        """
        _check(student, runs, teachers, corpus)
        self.student, self.runs, self.teachers, self.corpus, self.config = student, runs, teachers, corpus, config
        self.physics = physics
        experts = max(teacher.bank.experts for teacher in teachers)
        self.slots, self.envs = config.room(experts)
        self.sequences = config.sequences(experts)
        """That one run collects in a round; the widest bank of the group decides for all."""
        self.bank = stack_banks([teacher.bank for teacher in teachers])
        self.val_segments = corpus.indices("val")
        self.families, family = numbered([corpus.families[index] for index in self.val_segments])
        self.val_arrays = self._val_arrays(family)
        self.frozen = _frozen([teachers[run.teacher].valset for run in runs])
        store, assist = make_store(corpus.qpos, corpus.start, corpus.length), jnp.asarray(config.assist, jnp.float32)
        self.layout = Layout(len(runs), config.batch, devices)
        self._apart = self.layout.acts_apart and not isinstance(physics, CPhysics)
        if self._apart:
            self.bank, store, assist = self.layout.shared((self.bank, store, assist))
        self.stage, self.val_stage = (self._staged(store, assist, slots) for slots in self._seat())
        optimiser = update.make_optimiser(config, config.rate_for(student))
        self._init = update.make_init(student, optimiser)
        self._update = update.make_update(student, optimiser, self.layout)
        self._shared = self.layout.shared(self.frozen)
        self._val = update.make_val(student, len(self.families))
        self._auxiliary = make_val_auxiliary(student)
        self._own = update.make_own(len(self.families))
        self._begin = make_world(physics, config.env).begin
        self._rollout = make_rollout(physics, config.env, student)

    def start(self) -> tuple[update.TrainState, Episodes]:
        """Fresh students and fresh episodes on their arms."""
        rates = np.array([run.rate for run in self.runs], np.float32)
        state = self._init(self._keys(0), rates)
        state = self.layout.place(state._replace(params=self._pretrained(state.params)))
        return state, self._begin(self._keys(1), self.stage.task, self.envs)

    def acting(self, tree: Any) -> Any:
        """This process's arrays by run where those who act read them."""
        return self.layout.batch(tree) if self._apart else tree

    def _staged(self, store: ClipStore, assist: Float[Array, ""], slots: Slots) -> Stage:
        clips, weights = self.acting((slots.clips, slots.weights))
        seats = self.layout.shared(slots.seats) if self._apart else slots.seats  # the bank looks into all runs
        return Stage(Task(store, clips, weights, assist), seats)

    def collect(self, params: Any, episodes: Episodes, round_: int) -> tuple[Episodes, Sequences]:
        """One round's sequences on the arms: the bank acts in its share of the environments, the students elsewhere."""
        noise = Noise(np.float32(self.config.expert_noise), np.float32(self.config.obs_noise))
        actors = self._actors(params)
        acting = self.teaching(round_)
        return self._rollout(self._keys(2 + round_), self.stage, actors, acting, noise, episodes, self.config.steps)

    def step(self, state: update.TrainState, batch: Any) -> tuple[update.TrainState, Float[Array, "R"]]:
        """One update of every run; `state` is given away."""
        return self._update(state, self._shared, self.layout.batch(batch))

    def val_loss(self, params: Any) -> Float[np.ndarray, "R F"]:
        """Loss by family on the frozen set of each run's teacher."""
        return np.asarray(self._val(self.layout.whole(params), self.frozen, self.val_arrays))

    def val_auxiliary(self, params: Any) -> Float[np.ndarray, "R"]:
        """Loss of the second head on the same set; NaN without one."""
        return np.asarray(self._auxiliary(self.layout.whole(params), self.frozen, self.val_arrays))

    def own_loss(self, params: Any) -> Float[np.ndarray, "R F"]:
        """Loss by family on the states that the students themselves visit on `val`, from the same starts each time."""
        keys = self.acting(jnp.broadcast_to(jax.random.key(0), (len(self.runs),)))
        episodes = self._begin(keys, self.val_stage.task, self.envs)
        teacher = np.zeros((len(self.runs), self.slots, self.envs), bool)
        actors = self._actors(params)
        silent = Noise(np.float32(0.0), np.float32(0.0))
        _, frames = self._rollout(keys, self.val_stage, actors, teacher, silent, episodes, self.config.own_steps)
        segment = np.searchsorted(self.val_segments, frames.clip).astype(np.int32)
        return np.asarray(self._own(frames.loss, segment, self.val_arrays.family))

    def teaching(self, round_: int) -> Bool[np.ndarray, "R S E"]:
        """Environments in which the bank acts in a round: exactly its share of each run."""
        acting = np.arange(self.sequences) < round(self.config.teacher_share(round_) * self.sequences)
        shuffled = [np.random.default_rng([run.seed, 1, round_]).permutation(acting) for run in self.runs]
        return np.stack(shuffled).reshape(len(self.runs), self.slots, self.envs)

    def identity(self) -> str:
        """A hash of all that decides the outcome, by which a checkpoint is known."""
        return content_hash(
            {
                "student": self.student,
                "config": self.config,
                "runs": [[run.name, run.segments, run.seed, run.teacher, run.rate] for run in self.runs],
                "pretrained": [
                    [np.asarray(x) for x in jax.tree.leaves((run.pretrained.params, run.pretrained.normaliser))]
                    for run in self.runs
                    if run.pretrained is not None
                ],
                "bank": [np.asarray(x) for x in jax.tree.leaves(self.bank)],
                "labels": [teacher.labels for teacher in self.teachers],
                "frozen": [np.asarray(x) for x in jax.tree.leaves((self.frozen, self.val_arrays))],
                "corpus": self.corpus.content_hash,
                "physics": self.physics.name,
            }
        )

    def _actors(self, params: Any) -> Actors:
        return Actors(self.bank, params if self._apart else self.layout.whole(params), self.acting(self.frozen))

    def _pretrained(self, params: Any) -> Any:
        """Fresh parameters, with the trunks of runs that were pretrained."""
        if all(run.pretrained is None for run in self.runs):
            return params
        normalisers = jax.tree.map(np.asarray, self.frozen.normaliser)
        found = []
        for number, run in enumerate(self.runs):
            own = jax.tree.map(lambda x, number=number: np.asarray(x[number]), params)
            if run.pretrained is not None:
                normaliser = Normaliser(*(x[number] for x in normalisers))
                own = transplanted(own, run.pretrained, self.student, normaliser)
            found.append(own)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    def _keys(self, purpose: int) -> Key[Array, "R"]:
        seeds = np.array([run.seed for run in self.runs], np.uint32)
        keys: Array = self.acting(_fold(seeds, np.uint32(purpose)))
        return keys

    def _seat(self) -> tuple[Slots, Slots]:
        """Seats for training and for the students' own validation states, of one shape: one program rolls out both."""
        length, slots = self.corpus.length, self.slots
        first = np.cumsum([0, *(teacher.bank.experts for teacher in self.teachers)])
        val = self.corpus.indices("val")
        train_seats: list[list[Seat]] = []
        val_seats: list[list[Seat]] = []
        for run in self.runs:
            experts = first[run.teacher] + np.asarray(self.teachers[run.teacher].labels)
            arm = np.asarray(run.segments)
            train_seats.append(seat_clusters(arm, experts[arm], length[arm], slots))
            val_seats.append(seat_segments(val, experts[val], slots))
        return alike(train_seats, val_seats, int(first[-1]))

    def _val_arrays(self, family: Int[np.ndarray, "G"]) -> update.ValArrays:
        sets = [teacher.valset for teacher in self.teachers]
        shapes = {one.obs.shape for one in sets}
        if len(shapes) > 1:
            raise ValueError(f"validation sets of shapes {shapes} in one group")
        return update.ValArrays(
            obs=jnp.asarray(np.stack([one.obs for one in sets])),
            start=jnp.asarray(np.stack([one.start for one in sets])),
            label=jnp.asarray(np.stack([one.label for one in sets])),
            segment=jnp.asarray(np.stack([np.searchsorted(self.val_segments, one.segment) for one in sets]), jnp.int32),
            family=jnp.asarray(family),
            chosen=jnp.asarray([run.teacher for run in self.runs], jnp.int32),
        )


@jax.jit
def _fold(seeds: Int[Array, "R"], purpose: Int[Array, ""]) -> Key[Array, "R"]:
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), purpose))(seeds)


def _frozen(sets: Sequence[ValSet]) -> Frozen:
    mean, std, scale = (
        jnp.asarray(np.stack(values))
        for values in zip(*((one.normaliser.mean, one.normaliser.std, one.action_scale) for one in sets), strict=True)
    )
    return Frozen(Normaliser(mean, std), scale)


def _check(student: StudentConfig, runs: Sequence[RunSpec], teachers: Sequence[Teacher], corpus: Corpus) -> None:
    if student.obs_dim != STUDENT_OBS:
        raise InputError(f"student obs_dim is {student.obs_dim}; what the robot measures has {STUDENT_OBS} entries")
    if not runs:
        raise InputError("a group needs at least one run")
    train = corpus.indices("train")
    for run in runs:
        if len(run.segments) == 0 or not np.isin(run.segments, train).all():
            raise InputError(f"run {run.name}: its arm must be train segments of the corpus, at least one")
        if not 0 <= run.teacher < len(teachers):
            raise InputError(f"run {run.name}: teacher {run.teacher} of {len(teachers)}")
    for teacher in teachers:
        used = np.asarray(teacher.labels)[np.concatenate([train, corpus.indices("val")])]
        if len(teacher.labels) != len(corpus) or used.min() < 0 or used.max() >= teacher.bank.experts:
            raise InputError(
                f"labels {used.min()} to {used.max()} of {len(teacher.labels)} segments do not fit a bank of "
                f"{teacher.bank.experts} experts and a corpus of {len(corpus)}"
            )
