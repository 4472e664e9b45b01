"""What do experts cost, and do they learn to walk, on the accelerator at hand? Each part fits into a 9-minute call.

    python benchmarks/gpu_experts.py speed --out OUT [--experts 1 8 64 384]
    python benchmarks/gpu_experts.py train --out OUT --clip walk1_subject1.csv.gz [--minutes 8] [--recipe ppo|dream]
    python benchmarks/gpu_experts.py train --out OUT --clip FOLDER --experts 128 --recipe dream

`speed`: PPO control steps/s and compile seconds at each number of experts over the same environments in all, in MJX.
`train`: one expert for each segment of a clip (or for the first so many of a folder), all at once in MJX, until the
time is up; then `success_sonic` over 10 s with Wilson intervals, from random starts at assist 0 in converged C MuJoCo,
beside open-loop playback.
JSON is written as it comes (OUT/speed.json, OUT/train.json), so a call that is cut off has lost nothing but its end.
`--rehearse` takes tiny sizes and ends in minutes on a CPU; its figures mean nothing.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.bench.env_step import make_clips, whole_task
from scaling.bench.ppo import Sizes, Training
from scaling.bench.row import machine
from scaling.dynamics.train import TrainConfig
from scaling.experts.competence import CompetenceConfig, measure_competence
from scaling.experts.dream_config import DreamConfig
from scaling.experts.loop import pad_clusters
from scaling.experts.mesh import ExpertConfig, Program, gather
from scaling.experts.ppo import PPOConfig
from scaling.motion.clip import resample
from scaling.motion.read import read_motions
from scaling.motion.segment import SegmentConfig, cut
from scaling.record.files import write_json
from scaling.record.timing import medians
from scaling.tracking.env import EnvConfig, Task, TrackingEnv
from scaling.tracking.intervals import wilson
from scaling.tracking.physics import MjxPhysics
from scaling.tracking.reference import pack

SEGMENTS = SegmentConfig(min_seconds=10.1, target_seconds=15.0, max_seconds=20.4)
"""Long enough for 10 s from any start that `random_starts` draws."""


@dataclass(frozen=True)
class Scale:
    """`envs`: in all for `speed`, `train_envs` per expert; `dream_batch`: roll-outs of an expert's update; `reserve`:
    seconds kept for scoring.
    """

    experts: tuple[int, ...] = (1, 8, 64, 384)
    envs: int = 32256
    repeats: int = 5
    train_envs: int = 1024
    dream_batch: int = 512
    chunk: int = 5
    segments: int | None = None
    starts: int = 64
    seconds: float = 10.0
    reserve: float = 90.0


REHEARSAL = Scale((1, 8), 64, 1, train_envs=8, dream_batch=8, chunk=1, segments=2, starts=4, seconds=0.4, reserve=0.0)


def measure_speed(scale: Scale, out: Path) -> None:
    """Rows of `speed.json`, each written as soon as it is there."""
    store, env = make_clips(), TrackingEnv(MjxPhysics(), EnvConfig())
    sizes = Sizes(tuple(sorted({1, 8, *scale.experts})), scale.envs, scale.repeats)
    rows: list[dict[str, Any]] = []
    for experts in scale.experts:
        config = sizes.of(experts)
        training = Training(env, whole_task(store), config, experts)
        began = time.perf_counter()
        training.compile()
        compiling = time.perf_counter() - began
        seconds = medians({"train": training}, scale.repeats)["train"]
        steps = experts * config.steps_per_iteration
        row = {"experts": experts, "envs": experts * config.envs, "compile_s": compiling, "iteration_s": seconds}
        rows.append(row | {"control_steps_per_s": steps / seconds})
        print(rows[-1], flush=True)
        write_json(out / "speed.json", {"machine": machine(), "physics": "mjx", "rows": rows})


def recipe_of(name: str, scale: Scale) -> ExpertConfig:
    """PPO, or dreamed experts with batches for an accelerator; both until the time is over."""
    env = EnvConfig(episode_seconds=scale.seconds)
    if name == "ppo":
        return PPOConfig(envs=scale.train_envs, iterations=10**9, env=env)
    return DreamConfig(
        envs=scale.train_envs,
        iterations=10**9,
        actor_batch=scale.dream_batch,
        dynamics=TrainConfig(window=6, batch=8 * scale.dream_batch),
        env=replace(env, reward="absolute", start_noise=0.5),
    )


def train(scale: Scale, recipe: str, clip: Path, minutes: float, seed: int, out: Path) -> None:
    """`train.json`: the curve while it learns, then each expert's row and all their starts together."""
    began = time.perf_counter()
    motions = [resample(motion) for motion in read_motions(str(clip)).motions]
    pieces = [
        motion.qpos[start : start + length]
        for motion in motions
        for start, length in cut(motion.qpos, motion.rate_hz, SEGMENTS)
    ][: scale.segments]
    store = pack(pieces)
    lengths = np.array([len(piece) for piece in pieces])
    clusters = [np.array([index]) for index in range(len(pieces))]
    config = recipe_of(recipe, scale)
    program = Program(TrackingEnv(MjxPhysics(), config.env), config, scale.chunk)
    task = Task(store, *pad_clusters(clusters, lengths), jnp.zeros(()))
    state = program.init(np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), len(pieces)))), task)
    found: dict[str, Any] = {"machine": machine(), "physics": "mjx", "clip": str(clip.name), "config": asdict(config)}
    found |= {"experts": len(pieces), "recipe": recipe, "seed": seed, "curve": []}
    done, running = 0, 0.0
    while True:
        before = time.perf_counter()
        state, metrics = program.advance(state, task)
        shown = {name: value.mean() for name, value in gather(metrics)._asdict().items()}
        if done:  # the first call compiles
            running += time.perf_counter() - before
        done += scale.chunk
        steps = done * config.steps_per_iteration * len(pieces)
        speed = (steps - scale.chunk * config.steps_per_iteration * len(pieces)) / running if running else None
        found["curve"].append(
            {"seconds": time.perf_counter() - began, "env_steps": steps, "control_steps_per_s": speed, **shown}
        )
        print(done, {name: f"{value:.4g}" for name, value in shown.items()}, flush=True)
        write_json(out / "train.json", found)
        if time.perf_counter() - began > 60.0 * minutes - scale.reserve:
            break
    bank = jax.tree.map(np.asarray, program.actors(state))
    with jax.default_device(jax.devices("cpu")[0]):
        held = pack(pieces)
        score = CompetenceConfig(starts=scale.starts, seconds=scale.seconds)
        found["competence"] = measure_competence(bank, held, clusters, 0.0, score)
    for who in ("expert", "open_loop"):
        wins = sum(round(row[f"{who}_success_sonic"][0] * row["starts"]) for row in found["competence"])
        count = sum(row["starts"] for row in found["competence"])
        found[f"{who}_success_sonic"] = wilson(np.arange(count) < wins)._asdict()
        print(who, found[f"{who}_success_sonic"], flush=True)
    write_json(out / "train.json", found | {"seconds": time.perf_counter() - began})


def main() -> None:
    """One part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "train"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--experts", type=int, nargs="+", help="of `speed`: how many at once, one run each; of `train`: one, at most"
    )
    parser.add_argument("--recipe", choices=("ppo", "dream"), default="ppo", help="of `train`")
    parser.add_argument("--clip", type=Path, help="of `train`: a motion file, or a folder of them")
    parser.add_argument("--minutes", type=float, default=8.0, help="of `train`: all of it, scoring included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, to see that it runs")
    given = parser.parse_args()
    scale = REHEARSAL if given.rehearse else Scale()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "speed":
        measure_speed(replace(scale, experts=tuple(given.experts)) if given.experts else scale, given.out)
    elif given.clip is None:
        parser.error("train needs --clip")
    else:
        if given.experts:
            scale = replace(scale, segments=given.experts[0])
        train(scale, given.recipe, given.clip, given.minutes if not given.rehearse else 0.0, given.seed, given.out)


if __name__ == "__main__":
    main()
