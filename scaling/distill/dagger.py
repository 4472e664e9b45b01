"""DAgger of a whole group: R runs of one student, differing in arm, seed and teacher, in one vmapped program."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from scaling.contract.normaliser import Normaliser
from scaling.distill import update
from scaling.distill.buffer import Batch, Buffer
from scaling.distill.checkpoint import Rounds
from scaling.distill.config import DaggerConfig
from scaling.distill.data import Stream
from scaling.distill.history import History
from scaling.distill.rollout import STUDENT_OBS, Frozen, Noise, Sequences, make_begin, make_rollout
from scaling.distill.slots import Seat, alike, seat_clusters, seat_segments, stack_banks
from scaling.distill.student import Student
from scaling.distill.valset import ValSet, numbered
from scaling.errors import InputError
from scaling.experts.bank import Bank
from scaling.motion.corpus import Corpus
from scaling.record.hashing import content_hash
from scaling.record.progress import Progress, say
from scaling.students.config import StudentConfig
from scaling.students.count import parameters, training_flops_per_token
from scaling.tracking.env import EnvState, TrackingEnv
from scaling.tracking.physics import Physics
from scaling.tracking.reference import make_store


@dataclass(frozen=True)
class Teacher:
    """A bank, the expert of every segment of the corpus (`labels`), and the bank's validation set."""

    bank: Bank
    labels: Int[np.ndarray, "S"]
    valset: ValSet


@dataclass(frozen=True)
class RunSpec:
    """One run of a group: its arm (indices of `train` segments), its seed, and which of the group's teachers it has."""

    name: str
    segments: Int[np.ndarray, "m"]
    seed: int
    teacher: int = 0


class _Layout(NamedTuple):
    """Seats for training and for the students' own validation states, of one shape."""

    train: Any
    val: Any


def train_group(
    student: StudentConfig,
    runs: Sequence[RunSpec],
    teachers: Sequence[Teacher],
    corpus: Corpus,
    physics: Physics,
    config: DaggerConfig = DaggerConfig(),
    work: Path | None = None,
) -> list[Student]:
    """The students of `runs`, in order, with their columns and curves.

    With `work`, every round is kept there, and a call that finds rounds goes on from them to the same result. A run
    whose loss stops being finite is dropped with a sentence (its batch is kept in `work`, its `status` says when) and
    the others go on; InputError when none is left.
    """
    return Group(student, runs, teachers, corpus, physics, config).train(work)


class Group:
    """The compiled pieces and the constant inputs of one group; `train` runs them."""

    def __init__(
        self,
        student: StudentConfig,
        runs: Sequence[RunSpec],
        teachers: Sequence[Teacher],
        corpus: Corpus,
        physics: Physics,
        config: DaggerConfig,
    ) -> None:
        _check(student, runs, teachers, corpus)
        self.student, self.runs, self.teachers, self.corpus, self.config = student, runs, teachers, corpus, config
        self.physics = physics
        self.env = TrackingEnv(physics, config.env)
        self.store = make_store(corpus.qpos, corpus.start, corpus.length)
        self.bank = stack_banks([teacher.bank for teacher in teachers])
        self.assist = jnp.asarray(config.assist, jnp.float32)
        self.slots = self._seat()
        self.frozen = _frozen([teachers[run.teacher].valset for run in runs])
        self.val_segments = corpus.indices("val")
        self.families, family = numbered([corpus.families[index] for index in self.val_segments])
        self.val_arrays = self._val_arrays(family)
        optimiser = update.make_optimiser(config)
        self.init = update.make_init(student, optimiser)
        self.update = update.make_update(student, optimiser)
        self.val = update.make_val(student, len(self.families))
        self.own = update.make_own(len(self.families))
        self.begin = make_begin(self.env, config.envs)
        self.rollout = make_rollout(self.env, student, config.steps)

    def train(self, work: Path | None = None) -> list[Student]:
        """See `train_group`."""
        config = self.config
        history = History(config, len(self.runs), self.families)
        state, env = self.init(self._keys(0)), self.begin(self._keys(1), self.store, self.slots.train, self.assist)
        buffer = Buffer(config.buffer_mb / len(self.runs))
        rounds = None if work is None else Rounds(work / "rounds", self.identity())
        done = 0 if rounds is None else rounds.done()
        if rounds is not None and done:
            like = {"train": state, "env": env, "history": history.arrays}
            held, kept = rounds.restore(done, like)
            for sequences in held:
                buffer.add(sequences)
            state, env, history.arrays = kept["train"], kept["env"], jax.tree.map(np.array, kept["history"])
        status = ["finished"] * len(self.runs)
        with Progress(f"{self.student.family} {parameters(self.student) / 1e6:.2g}M x {len(self.runs)}", config.updates) as bar:
            bar.update(config.updates_until(done))
            for round_ in range(done, config.rounds):
                began = time.perf_counter()
                bar.update(config.updates_until(round_), message=f"round {round_ + 1}/{config.rounds}, rolling out")
                env, frames = self.collect(state.params, env, round_)
                fresh = Batch(*(np.asarray(x) for x in (frames.obs, frames.start, frames.label)))
                buffer.add(fresh)
                state = self._learn(state, buffer, history, round_, bar, work)
                history.put(
                    _end(history, round_),
                    np.asarray(state.alive),
                    val_loss_own=self.own_loss(state.params),
                    fail_rate=np.asarray(frames.failed).mean(axis=(1, 2)),
                )
                history.arrays["seconds"] += time.perf_counter() - began
                if rounds is not None:
                    kept = {"train": state, "env": env, "history": history.arrays}
                    rounds.save(round_ + 1, fresh, kept)
        return self._students(state, history)

    def identity(self) -> str:
        """A hash of all that decides the outcome, by which a checkpoint is known."""
        return content_hash(
            {
                "student": self.student,
                "config": self.config,
                "runs": [(run.name, run.segments, run.seed, run.teacher) for run in self.runs],
                "bank": [np.asarray(x) for x in jax.tree.leaves(self.bank)],
                "labels": [teacher.labels for teacher in self.teachers],
                "corpus": self.corpus.content_hash,
                "physics": self.physics.name,
            }
        )

    def collect(self, params: Any, env: EnvState, round_: int) -> tuple[EnvState, Sequences]:
        """One round's sequences on the runs' arms: the bank acts in its share of environments, the students elsewhere."""
        noise = Noise(np.float32(self.config.expert_noise), np.float32(self.config.obs_noise))  # type: ignore[arg-type]
        keys = self._keys(2 + round_)
        env, frames = self.rollout(
            keys, self.store, self.slots.train, self.assist, self.bank, params, self.frozen, self.teaching(round_), noise, env
        )  # fmt: skip
        return env, frames

    def teaching(self, round_: int) -> Bool[np.ndarray, "R S E"]:
        """Environments in which the bank acts in a round: exactly its share of each run."""
        count = self.config.sequences
        acting = np.arange(count) < round(self.config.teacher_share(round_) * count)
        shuffled = [np.random.default_rng([run.seed, 1, round_]).permutation(acting) for run in self.runs]
        return np.stack(shuffled).reshape(len(self.runs), self.config.slots, self.config.envs)

    def own_loss(self, params: Any) -> np.ndarray:
        """[R, F]: loss by family on the states that the students themselves visit on `val`, the same starts each time."""
        keys = jax.random.split(jax.random.key(0), 1 + len(self.runs))[:1]
        keys = jnp.broadcast_to(keys, (len(self.runs),))
        env = self.begin(keys, self.store, self.slots.val, self.assist)
        noise = Noise(np.float32(0.0), np.float32(0.0))  # type: ignore[arg-type]
        teacher = np.zeros((len(self.runs), self.config.slots, self.config.envs), bool)
        _, frames = self.rollout(
            keys, self.store, self.slots.val, self.assist, self.bank, params, self.frozen, teacher, noise, env
        )
        segment = np.searchsorted(self.val_segments, np.asarray(frames.clip)).astype(np.int32)
        return np.asarray(self.own(frames.loss, segment, self.val_arrays.family))

    def _learn(
        self, state: update.TrainState, buffer: Buffer, history: History, round_: int, bar: Progress, work: Path | None
    ) -> update.TrainState:
        first, last = self.config.updates_until(round_), self.config.updates_until(round_ + 1)
        stream = Stream(buffer, [run.seed for run in self.runs], self.config.batch)
        batches = stream.batches(last - first, self.config.threads)
        mark, losses = first, []
        ends = {end: point for point, (end, where, _) in enumerate(history.points) if where == round_}
        for number in range(first + 1, last + 1):
            state, loss = self.update(state, self.frozen, next(batches))
            losses.append(loss)
            if number not in ends:
                continue
            before = alive_at(history, mark, len(self.runs)) if mark else np.ones(len(self.runs), bool)
            alive = np.asarray(state.alive)
            self._report_lost(before & ~alive, alive, (mark, number), np.stack(losses), stream, first, work)
            history.put(
                ends[number], alive, train_loss=np.mean(losses, axis=0), val_loss=self.val(state.params, self.frozen, self.val_arrays)
            )
            shown = float(np.median(np.mean(losses, axis=0)[alive]))
            bar.update(number, message=f"round {round_ + 1}/{self.config.rounds}, loss {shown:.3g}")
            mark, losses = number, []
        return state
