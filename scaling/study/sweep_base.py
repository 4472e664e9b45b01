"""What the shipped sweeps start from: a study that a laptop finishes, and one of the published scale."""

from dataclasses import replace
from typing import Any

from scaling.experts.ppo import PPOConfig
from scaling.students.count import training_flops_per_token
from scaling.study.config import MotionsConfig, StudyConfig, quickstart
from scaling.study.student_stages import student_config
from scaling.study.sweep import Runs, Sweep
from scaling.study.sweep_cost import CPU, GPU
from scaling.study.sweep_jobs import StudyJobs


def tiny_study(name: str) -> StudyConfig:
    """The quickstart's study under another name: generated motion, dreamed experts, two cores."""
    return replace(quickstart(), name=name, physics="mujoco")


def paper_study(name: str, clusters: int) -> StudyConfig:
    """The published budget: 3e9 steps an expert, about 32,500 environments in all, three seeds.

    Motion is generated (100 hours) until `motions.path` names recorded motion.
    """
    base = tiny_study(name)
    envs = 32_768 // clusters // 4 * 4
    experts = PPOConfig(envs=envs, unroll=32, iterations=round(3e9 / (envs * 32)), env=base.dagger.env)
    # 3072 environments are whole ones for each expert of 128, 384 and 1024.
    dagger = replace(base.dagger, rounds=16, slots=128, envs=24, updates=20_000, batch=256, buffer_mb=65_536.0)
    return replace(
        base,
        physics="mjx",
        motions=MotionsConfig(synthetic_seconds=360_000.0),
        clusters=(clusters,),
        experts=experts,
        dagger=dagger,
        seeds=3,
        sizes=("S", "B", "L"),
        closed_loop=replace(base.closed_loop, starts=1024, seconds=10.0),
        resamples=4000,
    )


def priced(name: str, runs: Runs, paper: bool = False) -> Sweep:
    """The sweep of studies, with its plan priced for two cores or for one GPU of the published bill."""
    return Sweep(name, runs, StudyJobs(GPU if paper else CPU))


def updates_for(config: Any, size: str, flops: float) -> int:
    """Updates of the first family's student of this size that a budget of training FLOPs pays for."""
    per_token = training_flops_per_token(student_config(config, config.families[0], size))
    return round(flops / (per_token * config.dagger.batch * config.dagger.steps))
