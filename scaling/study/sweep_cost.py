"""What a job will cost, before any was run: seconds on one device and megabytes, from figures measured or published.

Estimates of this kind are right within a factor of about three; a plan uses what jobs took here as soon as one is done.
"""

from dataclasses import dataclass

from scaling.experts.dream_config import DreamConfig
from scaling.students.count import parameters, training_flops_per_token
from scaling.study.config import StudyConfig
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


def bank_steps(config: StudyConfig, k: int) -> float:
    """Environment steps of the training of `k` experts."""
    experts = config.experts_for(k)
    return k * experts.envs * experts.unroll * experts.iterations


def bank_seconds(config: StudyConfig, k: int, device: Device) -> float:
    """Training of `k` experts."""
    experts, steps = config.experts_for(k), bank_steps(config, k)
    if not isinstance(experts, DreamConfig):
        return device.start_s + steps / device.steps_s
    updates = experts.model_updates * device.model_update_s + k / 4 * experts.actor_updates * device.actor_update_s
    return device.start_s + steps / (1.5 * device.steps_s) + experts.iterations * updates


def run_count(config: StudyConfig) -> int:
    """Runs of one student: all arms with the first bank, the whole data with the others."""
    return (len(config.arms) + len(config.clusters) - 1) * config.seeds


def students_steps(config: StudyConfig) -> float:
    """Environment steps of one student on every arm and seed: the states that are labelled."""
    return (
        run_count(config) * config.dagger.rounds * config.dagger.sequences(max(config.clusters)) * config.dagger.steps
    )


def students_flops(config: StudyConfig, family: str, size: str) -> float:
    """Training FLOPs of one run of a student."""
    dagger, student = config.dagger, student_config(config, family, size)
    return dagger.updates * dagger.batch * dagger.steps * training_flops_per_token(student)


def students_seconds(config: StudyConfig, family: str, size: str, device: Device) -> float:
    """Training of one student on every arm and seed: states to label, then matrix products."""
    flops = run_count(config) * students_flops(config, family, size)
    return device.start_s + students_steps(config) / device.steps_s + flops / device.flops_s


def pretrain_seconds(config: StudyConfig, family: str, size: str, device: Device) -> float:
    """Training of the trunks of all seeds on reference motion."""
    pretrain, student = config.pretrain, student_config(config, family, size)
    tokens = config.seeds * pretrain.updates * pretrain.batch * pretrain.steps
    return device.start_s + tokens * training_flops_per_token(student) / device.flops_s


def tuned_steps(config: StudyConfig) -> float:
    """Environment steps of the fine-tuning of one student on its arms and seeds."""
    ppo = config.finetune.ppo
    return len(config.finetune.arms) * config.seeds * ppo.envs * ppo.unroll * config.finetune.iterations


def tuned_seconds(config: StudyConfig, family: str, size: str, device: Device) -> float:
    """Fine-tuning of one student on its arms and seeds: PPO's steps, then matrix products."""
    steps = tuned_steps(config)
    flops = steps * config.finetune.ppo.epochs * training_flops_per_token(student_config(config, family, size))
    return device.start_s + steps / device.steps_s + flops / device.flops_s


def played_seconds(config: StudyConfig, device: Device) -> float:
    """Closed loop of a group at one or two strengths of assistance, in C MuJoCo."""
    steps = config.closed_loop.starts * config.closed_loop.seconds * 50 * (2 if config.assist else 1)
    return device.start_s + run_count(config) * steps / 5_000


def students_megabytes(config: StudyConfig, family: str, size: str) -> float:
    """The stored parameters of a group."""
    return run_count(config) * 4e-6 * parameters(student_config(config, family, size))


def bank_megabytes(config: StudyConfig, k: int) -> float:
    """The stored experts: actor and critic with their optimiser, about 460 thousand figures each at the defaults."""
    return k * 4e-6 * 460_000
