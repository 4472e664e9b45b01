"""Trains tiny students in a process of its own: `python spread.py stream|group|slow WORK [RANK PROCESSES PORT]`.

"stream" takes updates on batches of noise, "group" is the whole training of the room's shared group, as a verb of the
command that saves as it goes; "slow" leaves time to stop it between two updates. The number of
simulated devices comes from XLA_FLAGS.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

if __name__ == "__main__" and len(sys.argv) > 3:
    rank, processes, port = (int(text) for text in sys.argv[3:6])
    jax.distributed.initialize(f"localhost:{port}", processes, rank)

import numpy as np

from scaling import cli
from scaling.cli.output import Outcome
from scaling.contract.normaliser import Normaliser
from scaling.distill import checkpoint, dagger
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.group import Group
from scaling.distill.mesh import Layout
from scaling.distill.rollout import Frozen
from scaling.distill.update import make_init, make_optimiser, make_update
from scaling.students.config import StudentConfig
from tests.distill.samples import CONFIG, STUDENT, ToyPhysics, make_corpus, make_runs, make_teachers

OBS, UPDATES = 6, 30
TINY = StudentConfig("transformer", OBS, width=8, depth=1, heads=2, feed_forward=16, context=4)
SHAPES = {"data": (1, 4), "runs": (2, 3)}  # runs and sequences: what two devices can share out


def stream(runs, sequences):
    """Students after the first update, the loss curve, and which share of their parameters one device holds."""
    config = DaggerConfig(rounds=1, updates=UPDATES, batch=sequences, warmup=0.0, learning_rate=1e-2, rate_rule="fixed")
    layout = Layout(runs, sequences)
    optimiser = make_optimiser(config, config.rate_for(TINY))
    keys = jax.random.split(jax.random.key(0), runs)
    state = layout.place(make_init(TINY, optimiser)(keys, np.ones(runs, np.float32)))
    update = make_update(TINY, optimiser, layout)
    wide = np.ones((runs, OBS), np.float32)
    frozen = layout.shared(Frozen(Normaliser(0 * wide, wide), np.ones((runs, 29), np.float32)))
    rng = np.random.default_rng(1)
    kernel, losses, first = rng.normal(size=(OBS, 29)) / np.sqrt(OBS), [], None
    for _ in range(UPDATES):
        obs = rng.normal(size=(runs, sequences, 8, OBS)).astype(np.float32)
        start = rng.random((runs, sequences, 8)) < 0.1
        batch = Batch(obs, start, (obs @ kernel).astype(np.float32))
        state, loss = update(state, frozen, layout.batch(batch))
        losses.append(np.asarray(loss))
        first = first or jax.tree.map(np.asarray, layout.whole(state.params))
    leaves = jax.tree.leaves(state.params)
    share = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)
    return {"losses": np.stack(losses), "share": share, **{str(i): x for i, x in enumerate(jax.tree.leaves(first))}}


def group(work):
    """The students of the shared group, kept in `work` as they come along."""
    corpus, physics = make_corpus(), ToyPhysics()
    teachers = make_teachers(corpus, physics)
    if jax.process_count() == 1 and jax.device_count() > 1:
        collect = Group.collect

        def watched(self, params, episodes, round_):
            episodes, frames = collect(self, params, episodes, round_)
            (work / f"round-{round_}-by-{len(episodes.obs.sharding.device_set)}").touch()
            return episodes, frames

        Group.collect = watched
    return dagger.train_group(STUDENT, make_runs(corpus), teachers, corpus, physics, CONFIG, work)


def write(work, name, arrays):
    """Every process's own view."""
    np.savez(work / f"{name}-{jax.process_index()}.npz", **arrays)


def main(mode, work):
    """The mode's arrays, one file a process."""
    if mode == "stream":
        for name, shape in SHAPES.items():
            write(work, name, stream(*shape))
        return Outcome({})
    if mode == "slow":
        step = Group.step

        def slowly(self, *arguments):
            (work / f"stepping-{jax.process_index()}").touch()
            time.sleep(1.0)
            return step(self, *arguments)

        Group.step, checkpoint._LOOK_S = slowly, 0.0
    for student in group(work):
        arrays = {str(i): x for i, x in enumerate(jax.tree.leaves(student.params))}
        write(work, f"student-{student.columns['student_frames']}-{student.columns['unique_frames']}", arrays)
    return Outcome({})


if __name__ == "__main__":
    given = Path(sys.argv[2])
    verb = argparse.Namespace(verb=lambda _: main(sys.argv[1], given), on_signal="save", json=None)
    sys.exit(cli.run(verb))
