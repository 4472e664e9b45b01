"""A study small enough for a test: `python tiny.py OUT` runs it in a process of its own."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from scaling.distill.config import DaggerConfig, ValConfig
from scaling.distill.direct import DirectConfig
from scaling.distill.finetune import FinetuneConfig
from scaling.dynamics.model import ModelConfig
from scaling.dynamics.train import TrainConfig
from scaling.experts.competence import CompetenceConfig
from scaling.experts.dream_config import DreamConfig
from scaling.experts.ppo import PPOConfig
from scaling.motion.corpus import CorpusConfig
from scaling.motion.segment import SegmentConfig
from scaling.study.config import ClosedLoopConfig, MotionsConfig, StudyConfig
from scaling.study.quickstart import run_study
from scaling.tracking.env import EnvConfig
from scaling.view.render import RenderSettings, view_rollout

ENV = EnvConfig(episode_seconds=2.0, start_noise=0.5)
DIRECT = DirectConfig(
    DreamConfig(
        envs=4,
        unroll=4,
        iterations=2,
        memory=8,
        head_start=0,
        warm_start=0.0,
        horizon=2,
        actor_updates=1,
        actor_batch=2,
        model=ModelConfig(width=8, depth=1, soles=False),
        model_updates=1,
        dynamics=TrainConfig(window=2, batch=4),
        env=replace(ENV, reward="absolute"),
    )
)

FINETUNE = FinetuneConfig(
    iterations=2,
    ppo=PPOConfig(envs=8, unroll=4, minibatches=2, epochs=1, value_hidden=(16,), critic_warmup=0, env=ENV),
)

PICTURES = RenderSettings(64, 48, fps=2, max_seconds=1.0, strip_frames=2, tile_width=64, tile_height=48)


def small_pictures(patch: pytest.MonkeyPatch) -> None:
    """Thumbnails: at full size they would take longer than all the rest of so small a study."""
    patch.setattr("scaling.view.experts._SETTINGS", PICTURES)
    patch.setattr("scaling.study.publish.view_rollout", partial(view_rollout, settings=PICTURES))


def tiny(**changes):
    """Every stage with the real component inside, each as small as it goes."""
    config = StudyConfig(
        name="tiny",
        motions=MotionsConfig(synthetic_seconds=120.0, take_seconds=10.0),
        corpus=CorpusConfig(segments=SegmentConfig(2.0, 4.0, 8.0)),
        clusters=(2, 1),
        assist=0.1,
        experts=PPOConfig(
            envs=8,
            unroll=4,
            iterations=2,
            minibatches=2,
            epochs=1,
            hidden=(16,),
            value_hidden=(16,),
            assist=0.1,
            warm_start=0.0,
            critic_warmup=0,
            env=ENV,
        ),
        competence=CompetenceConfig(starts=4, seconds=0.4),
        val=ValConfig(sequences=6, steps=32, assist=0.1, env=ENV),
        dagger=DaggerConfig(
            rounds=2, slots=2, envs=1, steps=32, own_steps=16, updates=4, batch=2, val_every=2, assist=0.1, env=ENV
        ),
        families=("mlp",),
        sizes=("0.05M",),
        arms=(0.25, 0.5, 1.0),
        seeds=2,
        closed_loop=ClosedLoopConfig(starts=4, seconds=0.4),
        resamples=20,
        physics="mujoco",
    )
    return replace(config, **changes)


if __name__ == "__main__":
    small_pictures(pytest.MonkeyPatch())
    run_study(tiny(), Path(sys.argv[1]), "a command")
