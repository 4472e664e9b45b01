"""One dreamed policy for all takes of a folder: how many does it still fail after so many minutes of an accelerator?

    python benchmarks/gpu_generalist.py --out OUT --clips ../shared/motions/g1_29dof/lafan1 --minutes 8

Training in MJX; at each mark every take is played once from its first frame, without noise, in converged C MuJoCo:
whether it fails (SONIC's limits), and the share of it that is followed before.
`OUT/generalist.json` is written at each mark. `--rehearse` takes tiny sizes; its figures mean nothing.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.bench.row import machine
from scaling.dynamics.train import TrainConfig
from scaling.experts.bank import BANK_POLICY, Bank
from scaling.experts.dream_config import DreamConfig
from scaling.experts.loop import pad_clusters
from scaling.experts.mesh import Program
from scaling.motion.clip import resample
from scaling.motion.read import read_motions
from scaling.record.files import write_json
from scaling.robot.model import CONVERGED
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.evaluate import Starts, make_player, scores, whole_clips
from scaling.tracking.physics import CPhysics, MjxPhysics
from scaling.tracking.reference import ClipStore, pack

CONFIG = DreamConfig(
    envs=4096,
    iterations=10**9,
    memory=64,
    hidden=(1024, 512, 256),
    actor_batch=2048,
    dynamics=TrainConfig(window=8, batch=4096),
    env=EnvConfig(reward="absolute", episode_seconds=20.0, start_noise=0.5),
)
REHEARSAL = replace(
    CONFIG, envs=8, hidden=(16,), actor_batch=8, actor_updates=2, model_updates=2, dynamics=TrainConfig(8, batch=16)
)


def judge(play: Any, bank: Bank, store: ClipStore, starts: Starts) -> dict[str, Any]:
    """Of every take, once from its first frame: whether it fails, and for how long it is followed."""
    trace = play(jax.tree.map(lambda x: x[0], bank), store, starts, jnp.zeros(()), int(np.asarray(starts.steps).max()))
    result = scores(trace)
    whole = np.asarray(starts.steps) * 0.02
    return {
        "takes": len(whole),
        "failed": int((~np.asarray(result.success)).sum()),
        "share_followed": float((np.asarray(result.seconds) / whole).mean()),
        "seconds": np.asarray(result.seconds).tolist(),
    }


def main() -> None:
    """Trains until the time is up, judged about every two minutes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of motion files")
    parser.add_argument("--minutes", type=float, default=8.0, help="all of it, compiling and judging included")
    parser.add_argument("--marks", type=float, default=2.0, help="minutes between two judgements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, to see that it runs")
    given = parser.parse_args()
    config, began = REHEARSAL if given.rehearse else CONFIG, time.perf_counter()
    given.out.mkdir(parents=True, exist_ok=True)
    clips = [resample(motion) for motion in read_motions(str(given.clips)).motions]
    if given.rehearse:
        clips = clips[:2]
    store = pack([clip.qpos[: 100 if given.rehearse else None] for clip in clips])
    program = Program(TrackingEnv(MjxPhysics(), config.env), config, 1 if given.rehearse else 5)
    task = Task(store, *pad_clusters([np.arange(len(clips))], np.asarray(store.length)), jnp.zeros(()))
    state = program.init(np.asarray(jax.random.key_data(jax.random.key(given.seed)))[None], task)
    with jax.default_device(jax.devices("cpu")[0]):
        held = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), store)
        starts, play = whole_clips(held, np.arange(len(clips))), make_player(CPhysics(CONVERGED), BANK_POLICY)
    found: dict[str, Any] = {"machine": machine(), "names": [clip.name for clip in clips], "config": asdict(config)}
    found["curve"], iterations, marked = [], 0, 0.0
    while True:
        state, metrics = program.advance(state, task)
        iterations += program.count
        minutes = (time.perf_counter() - began) / 60
        over = given.rehearse or minutes > given.minutes - 1.0
        if minutes - marked < given.marks and not over:
            continue
        marked = minutes
        bank = jax.tree.map(np.asarray, program.actors(state))
        with jax.default_device(jax.devices("cpu")[0]):
            row = judge(play, bank, held, starts)
        shown = {name: float(np.asarray(value)[:, -1].mean()) for name, value in metrics._asdict().items()}
        steps = iterations * config.steps_per_iteration
        found["curve"].append({"minutes": minutes, "iterations": iterations, "env_steps": steps, **row, **shown})
        print(found["curve"][-1], flush=True)
        write_json(given.out / "generalist.json", found)
        if over:
            break


if __name__ == "__main__":
    main()
