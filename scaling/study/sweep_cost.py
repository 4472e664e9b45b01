"""What each job of a sweep is expected to cost and to find, before any was run; and what it says that it did.

Seconds on one device and megabytes are from figures measured or published. Estimates of this kind are right within a
factor of about three; a plan uses what jobs took here as soon as one is done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scaling.experts.bank import load_card
from scaling.experts.dream_config import DreamConfig
from scaling.record.files import read_json
from scaling.students.count import acting_parameters, parameters, training_flops_per_token
from scaling.study.config import StudyConfig
from scaling.study.once import Once
from scaling.study.student_stages import student_config


@dataclass(frozen=True)
class Device:
    """Control steps a second, learning included; seconds of a dreamed update; FLOP/s of students; start of a job."""

    name: str
    steps_s: float
    model_update_s: float
    actor_update_s: float
    flops_s: float
    start_s: float


# Two cores: benchmarks/experts_cpu.json and the project's measurements of dreamed iterations.
CPU = Device("two CPU cores", 12_000.0, 0.08, 0.1, 2e10, 15.0)
# The published bank: 384 experts of 3e9 steps in 12,000 hours of an RTX 4090. The rest is a guess of a tenth of peak.
GPU = Device("one RTX 4090", 27_000.0, 0.004, 0.005, 1.5e13, 90.0)


@dataclass(frozen=True)
class Cost:
    """Seconds on one device, megabytes and environment steps of a job; `stepped` reads its true steps in its folder."""

    seconds: float
    megabytes: float = 0.0
    env_steps: float = 0.0
    stepped: Callable[[Path], int] = lambda work: 0


CORPUS, REFERENCE, ROWS = Cost(20.0, 50.0), Cost(10.0), Cost(5.0)


def embedding_cost(config: StudyConfig) -> Cost:
    """The embedding of all segments."""
    return Cost(60.0 if config.embed.kind == "periodic" else 5.0)


def clusters_cost(device: Device) -> Cost:
    """A clustering."""
    return Cost(device.start_s)


def bank_cost(config: StudyConfig, k: int, device: Device) -> Cost:
    """The training of `k` experts; a kept bank was paid for elsewhere.

    An expert is stored as actor and critic with their optimiser, about 460 thousand figures at the defaults.
    """
    megabytes = k * 4e-6 * 460_000
    if config.bank is not None:
        return Cost(device.start_s, megabytes)
    return Cost(
        bank_seconds(config, k, device), megabytes, _bank_steps(config, k), lambda work: load_card(work).env_steps
    )


def bank_seconds(config: StudyConfig, k: int, device: Device) -> float:
    """Training of `k` experts."""
    experts, steps = config.experts_for(k), _bank_steps(config, k)
    if not isinstance(experts, DreamConfig):
        return device.start_s + steps / device.steps_s
    updates = experts.model_updates * device.model_update_s + k / 4 * experts.actor_updates * device.actor_update_s
    return device.start_s + steps / (1.5 * device.steps_s) + experts.iterations * updates


def _bank_steps(config: StudyConfig, k: int) -> float:
    experts = config.experts_for(k)
    return k * experts.envs * experts.unroll * experts.iterations


def valset_cost(device: Device) -> Cost:
    """The labelled states of a bank."""
    return Cost(2 * device.start_s)


def played_cost(config: StudyConfig, device: Device) -> Cost:
    """Closed loop of a group at one or two strengths of assistance, in C MuJoCo."""
    steps = config.closed_loop.starts * config.closed_loop.seconds * 50 * (2 if config.assist else 1)
    return Cost(device.start_s + _run_count(config) * steps / 5_000)


def pretrained_cost(config: StudyConfig, family: str, size: str, device: Device) -> Cost:
    """Training of the trunks of all seeds on reference motion."""
    pretrain = config.pretrain
    tokens = config.seeds * pretrain.updates * pretrain.batch * pretrain.steps
    return Cost(device.start_s + tokens * _sized(config, family, size).flops / device.flops_s)


def students_cost(config: StudyConfig, family: str, size: str, device: Device) -> Cost:
    """Training of one student on every arm and seed: states to label, then matrix products; parameters are stored."""
    dagger, runs, sized = config.dagger, _run_count(config), _sized(config, family, size)
    steps = runs * dagger.rounds * dagger.sequences(max(config.clusters)) * dagger.steps
    flops = runs * _students_flops(config, sized)
    seconds = device.start_s + steps / device.steps_s + flops / device.flops_s
    return Cost(seconds, runs * 4e-6 * sized.parameters, steps, _stepped("env_steps"))


def direct_cost(config: StudyConfig, family: str, size: str, device: Device) -> Cost:
    """Training without experts, at the price of that with them."""
    return Cost(students_cost(config, family, size, device).seconds, stepped=_stepped("env_steps"))


def tuned_cost(config: StudyConfig, family: str, size: str, device: Device) -> Cost:
    """Fine-tuning of one student on its arms and seeds: PPO's steps, then matrix products."""
    tuning, ppo = config.finetune, config.finetune.ppo
    steps = len(tuning.arms) * config.seeds * ppo.envs * ppo.unroll * tuning.iterations
    flops = steps * ppo.epochs * _sized(config, family, size).flops
    seconds = device.start_s + steps / device.steps_s + flops / device.flops_s
    return Cost(seconds, env_steps=steps, stepped=_stepped("tuned_env_steps"))


def expected_rows(config: StudyConfig, family: str, size: str) -> list[dict[str, Any]]:
    """What is known of the rows of a group before its corpus is there: no frames, but the arms."""
    sized = _sized(config, family, size)
    known = {
        "student": family,
        "size": size,
        "params": sized.acting,
        "updates": config.dagger.updates,
        "flops": _students_flops(config, sized),
        "status": "finished",
    }
    return [
        {**known, "clusters": k, "arm": arm, "seed": seed}
        for teacher, k in enumerate(config.clusters)
        for arm in (config.arms if teacher == 0 else (1.0,))
        for seed in range(config.seeds)
    ]


def _run_count(config: StudyConfig) -> int:
    """Runs of one student: all arms with the first bank, the whole data with the others."""
    return (len(config.arms) + len(config.clusters) - 1) * config.seeds


class _Sized(NamedTuple):
    """Parameters of a student, those that an action goes through, and training FLOPs of a frame."""

    parameters: int
    acting: int
    flops: int


_SIZED: Once[_Sized] = Once()


def _sized(config: StudyConfig, family: str, size: str) -> _Sized:
    one = student_config(config, family, size)
    return _SIZED.get((one,), lambda: _Sized(parameters(one), acting_parameters(one), training_flops_per_token(one)))


def _students_flops(config: StudyConfig, sized: _Sized) -> float:
    """Training FLOPs of one run of a student."""
    return config.dagger.updates * config.dagger.batch * config.dagger.steps * sized.flops


def _stepped(column: str) -> Callable[[Path], int]:
    """How many environment steps the finished students of a folder say that they took."""

    def read(work: Path) -> int:
        return sum(read_json(path)["columns"][column] for path in work.glob("*/student.json"))

    return read
