"""DAgger: roll out the students, label by the bank, aggregate, update; a group of runs at once, resumable anywhere."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from scaling.contract.normaliser import Normaliser
from scaling.distill.buffer import Batch, Buffer
from scaling.distill.checkpoint import Pace, Rounds
from scaling.distill.config import DaggerConfig
from scaling.distill.data import Stream
from scaling.distill.group import Group, RunSpec, Teacher
from scaling.distill.history import ACTING, LEARNING, History
from scaling.distill.pretrain import pretrain_columns
from scaling.distill.student import Student
from scaling.errors import InputError
from scaling.experts.mesh import anyone
from scaling.memory import keep_freed_memory
from scaling.motion.corpus import Corpus
from scaling.record.progress import Progress, say
from scaling.record.stopping import Stopped, saving
from scaling.students import count
from scaling.students.config import StudentConfig
from scaling.students.count import parameters, training_flops_per_token
from scaling.tracking.physics import Physics

__all__ = ["RunSpec", "Teacher", "forget", "train_group"]


def train_group(
    student: StudentConfig,
    runs: Sequence[RunSpec],
    teachers: Sequence[Teacher],
    corpus: Corpus,
    physics: Physics,
    config: DaggerConfig,
    work: Path | None = None,
) -> list[Student]:
    """The students of `runs`, in order, with their columns and curves.

    With `work`, every round is kept there, and a call that finds rounds goes on from them to the same result; asked to
    stop, it saves within seconds what it has. `forget(work)` when the students have been saved. A run whose loss stops
    being finite is dropped with a sentence (`status` says when, its batch is kept in `work`) and the others go on;
    InputError when none is left.
    """
    keep_freed_memory()
    return _Training(Group(student, runs, teachers, corpus, physics, config), work).run()


def forget(work: Path) -> None:
    """Deletes the checkpoints of `train_group`."""
    Rounds.delete(work)


class _Training:
    """The loop over rounds and what it carries: students, episodes, buffer, history, and how many updates are over.

    `taken` are the training losses [R] of the updates since the last point of the history.
    """

    def __init__(self, group: Group, work: Path | None) -> None:
        self.group, self.config, self.work = group, group.config, work
        config, runs = group.config, len(group.runs)
        self.history = History(config, runs, group.families)
        held = group.sequences * (config.rounds if config.aggregation == "all" else 1)
        self.buffer = Buffer(config.buffer_mb / runs, held, config.aggregation)
        self.state, self.env = group.start()
        self.updates = 0
        self.taken: list[np.ndarray] = []
        self.pace = Pace()
        self.rounds = None if work is None else Rounds(work, group.identity())
        if self.rounds is not None:
            self._resume(self.rounds)
        self._clock = time.perf_counter()

    def run(self) -> list[Student]:
        """Every update that is left; the students."""
        size = f"{self.group.student.family} {parameters(self.group.student) / 1e6:.2g}M"
        title = f"{size}, {len(self.group.runs)} students"
        with Progress(title, self.config.updates) as bar, saving(self.rounds is not None) as self._asked:
            while self.updates < self.config.updates:
                round_ = self.config.round_of(self.updates)
                if self.buffer.rounds == round_:
                    bar.update(self.updates, message=f"round {round_ + 1}, acting")
                    self._act(round_)
                self._learn(round_, bar)
        return self._students()

    def _act(self, round_: int) -> None:
        """A round's sequences, into the buffer."""
        self.env, frames = self.group.collect(self.state.params, self.env, round_)
        fresh = Batch(frames.obs, frames.start, frames.label)
        self.buffer.add(fresh)
        if self.rounds is not None:
            self.rounds.keep(round_ + 1, fresh)
        end = self.history.end_of(round_)
        self.history.put(end, np.asarray(self.state.alive), fail_rate=frames.failed.mean(axis=(1, 2)))
        self._tick(ACTING)
        self._look()

    def _learn(self, round_: int, bar: Progress) -> None:
        """The round's updates that are left, a validation loss every `val_every` of them and at the end."""
        first, last = self.config.updates_until(round_), self.config.updates_until(round_ + 1)
        stream = Stream(self.buffer, [run.seed for run in self.group.runs], self.config.batch)
        batches = stream.batches(self.updates - first, last - first, self.config.threads)
        ahead = [(number, point) for number, point in self.history.of_round(round_) if point[0] > self.updates]
        for number, (end, _, ending) in ahead:
            while self.updates < end:
                self._step(batches, min(self.pace.count, end - self.updates))
                known = self.taken[-1][np.isfinite(self.taken[-1])]
                loss = f", loss {np.median(known):.3f}" if len(known) else ""
                bar.update(self.updates, message=f"round {round_ + 1}{loss}")
                if self.updates < end:
                    self._look()
            self._measure(number, stream, first)
            if ending:
                own = self.group.own_loss(self.state.params)
                self.history.put(number, np.asarray(self.state.alive), val_loss_own=own)
                self._tick(ACTING)
            self._look(save=ending)

    def _step(self, batches: Iterator[Batch], count: int) -> None:
        """So many updates."""
        began, losses = time.perf_counter(), []
        for _ in range(count):
            self.state, loss = self.group.step(self.state, next(batches))
            losses.append(loss)
        self.taken += [np.asarray(loss) for loss in losses]
        self.updates += count
        self.pace.took(count, time.perf_counter() - began)
        self._tick(LEARNING)

    def _measure(self, point: int, stream: Stream, first: int) -> None:
        """A point's losses; `first` is the round's first update."""
        alive, taken = np.asarray(self.state.alive), np.stack(self.taken)
        begun, self.taken = self.updates - len(taken), []
        for run in self.history.lose(alive, begun, self.updates):
            self._lost(run, stream, begun - first + int(np.argmin(np.isfinite(taken[:, run]))), alive)
        self.history.put(
            point,
            alive,
            train_loss=taken.mean(axis=0),
            val_loss=self.group.val_loss(self.state.params),
            val_auxiliary=self.group.val_auxiliary(self.state.params),
        )
        self._tick(LEARNING)

    def _look(self, save: bool = False) -> None:
        """Saves what there is if it is time, or the process is to stop, and then stops."""
        if self.rounds is None:
            return
        asked = anyone(self._asked())
        if save or asked or self.rounds.due:
            self.rounds.save(self.updates + self.buffer.rounds, self._kept())
        if asked:
            raise Stopped

    def _tick(self, what: int) -> None:
        """The seconds since the last call went into this."""
        now = time.perf_counter()
        self.history.arrays["seconds"][what] += now - self._clock
        self._clock = now

    def _lost(self, run: int, stream: Stream, position: int, alive: np.ndarray) -> None:
        """Says which run stopped and when, and keeps the batch on which it did."""
        sentence = (
            f"{self.group.runs[run].name}: {self.history.status(run)} (the loss is no longer finite); "
            "lower the learning rate or look at the bank's labels"
        )
        if self.work is not None and jax.process_index() == 0:
            path = self.work / f"not-finite-{run}.npz"
            indices: Int[np.ndarray, "R B"] = stream.indices(position)
            batch = self.buffer.take(indices)
            np.savez(path, **{name: values[run] for name, values in batch._asdict().items()})
            sentence += f"; its batch is in {path}"
        if not alive.any():
            raise InputError(sentence)
        say(sentence)

    def _kept(self) -> dict[str, Any]:
        # On the host: Orbax refuses one process's own arrays where there are several processes.
        held = jax.tree.map(np.asarray, {"train": self.group.layout.whole(self.state), "env": self.env})
        taken = np.full((self.config.val_every, len(self.group.runs)), np.nan, np.float32)
        taken[: len(self.taken)] = self.taken or np.nan
        at = np.array([self.updates, self.buffer.rounds])
        return {**held, "history": self.history.arrays, "taken": taken, "at": at}

    def _resume(self, rounds: Rounds) -> None:
        number = rounds.latest()
        if not number:
            return
        kept = rounds.restore(number, self._kept())
        self.updates, acted = (int(count) for count in kept["at"])
        for sequences in rounds.sequences(acted):
            self.buffer.add(sequences)
        self.state = self.group.layout.place(kept["train"])
        self.env = self.group.acting(jax.tree.map(jnp.asarray, kept["env"]))
        self.history.arrays = {name: np.array(values) for name, values in kept["history"].items()}
        self.taken = list(np.array(kept["taken"])[: self.updates - self.history.begun(self.updates)])

    def _students(self) -> list[Student]:
        params = jax.tree.map(np.asarray, self.group.layout.whole(self.state.params))
        frozen = jax.tree.map(np.asarray, self.group.frozen)
        return [
            Student(
                self.group.student,
                jax.tree.map(lambda x, run=run: x[run], params),
                Normaliser(*(x[run] for x in frozen.normaliser)),
                frozen.action_scale[run],
                self._columns(run),
                self.history.curve(run),
            )
            for run in range(len(self.group.runs))
        ]

    def _columns(self, run: int) -> dict[str, Any]:
        """A run's part of its row: `student_frames` counts states where the student acted, `flops` training alone.

        `held_sequences` are what the budget of memory left to learn from, `frames_per_s` what the group trained on.
        `acting_s` (labelling and the students' own validation states included) and `learning_s` are its share of the
        group's seconds.
        """
        config, corpus, arm = self.config, self.group.corpus, self.group.runs[run].segments
        student = self.group.student
        frames = config.rounds * self.group.sequences * config.steps
        acted = sum(int((~self.group.teaching(round_)[run]).sum()) for round_ in range(config.rounds)) * config.steps
        unique = corpus.frames(arm)
        tokens = config.updates * config.batch * config.steps
        acting, learning = (float(x) / len(self.group.runs) for x in self.history.arrays["seconds"])
        return {
            **count.columns(student),
            **pretrain_columns(self.group.runs[run].pretrained),
            "corpus_hash": corpus.content_hash,
            "unique_frames": unique,
            "augmented_frames": corpus.augmented_frames(arm),
            "hours": corpus.hours(arm),
            "rate_hz": corpus.rate_hz,
            "student_frames": acted,
            "labelled_frames": frames,
            "held_sequences": len(self.buffer),
            "frames_per_s": tokens / learning if learning > 0 else None,
            "epochs": acted / unique,
            "updates": config.updates,
            "flops": tokens * training_flops_per_token(student),
            "env_steps": frames,
            "assist": config.assist,
            **self.history.columns(run),
            "teachers": config.teachers,
            "aggregation": config.aggregation,
            "learning_rate": config.rate_for(student) * self.group.runs[run].rate,
            "seconds": acting + learning,
            "acting_s": acting,
            "learning_s": learning,
            "devices": self.group.layout.mesh.size,
            "physics": self.group.physics.name,
            "status": self.history.status(run),
        }
