"""Dreamed experts: what an iteration takes, how near that is to its matrix products, and the bill of the recipe."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import jax

from scaling.bench.env_step import whole_task
from scaling.bench.ppo import PUBLISHED_EXPERTS, Training, product
from scaling.bench.ppo_flops import forward_flops, gradient_flops
from scaling.bench.row import Row
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.dynamics.soles import SOLE_FEATURES
from scaling.dynamics.state import FEATURES
from scaling.experts.dream_config import DreamConfig
from scaling.record.timing import medians
from scaling.robot.g1 import NUM_JOINTS, NV
from scaling.tracking.env import TrackingEnv
from scaling.tracking.physics import make_physics
from scaling.tracking.reference import ClipStore

_ENDLESS = 10**9  # iterations: an expert that has spent its budget stands still


def rows(store: ClipStore, experts: tuple[int, ...], repeats: int) -> Iterator[Row]:
    """Iterations of so many experts and matrix products of their shapes, in turns; the config's budget in the bill."""
    config = DreamConfig()
    endless = replace(config, iterations=_ENDLESS, warm_start=0.0)
    env, one = TrackingEnv(make_physics("auto"), config.env), whole_task(store)
    ways = {count: Training(env, one, endless, count) for count in experts}
    with ThreadPoolExecutor() as pool:
        list(pool.map(Training.compile, ways.values()))
    for training in ways.values():
        jax.block_until_ready(training.settle())
    most = max(experts)
    products, flops = product(most * config.actor_batch, config.model.width, config.model.width)
    took = medians({**{str(count): training for count, training in ways.items()}, "product": products}, repeats)
    for count in experts:
        yield Row(f"dream_{count}_experts", took[str(count)], "s/iteration", higher_is_better=False)
    seconds = took[str(most)]
    yield Row("dream_env_steps", most * config.steps_per_iteration / seconds, "control steps/s")
    yield Row("dream_imagined_steps", most * imagined_steps(config) / seconds, "control steps/s")
    yield Row("matrix_product_dream", flops / took["product"] / 1e9, "GFLOP/s")
    bound = flops_per_iteration(config, most) * took["product"] / flops
    yield Row("dream_share_of_matrix_products", bound / seconds, "x", ratio_to="matrix_product_dream")
    hours = PUBLISHED_EXPERTS / most * config.iterations * seconds / 3600.0
    yield Row("published_bank_dreamed", hours, "device-hours", higher_is_better=False)


def imagined_steps(config: DreamConfig) -> int:
    """Of one expert in one iteration."""
    return config.actor_updates * config.actor_batch * config.horizon


def flops_per_iteration(config: DreamConfig, experts: int) -> float:
    """Matrix products alone, a bound from below: the model's updates, and in imagination the model there and back to
    its inputs, and the actor with its gradient.
    """
    width = FEATURES + SOLE_FEATURES * config.model.soles
    outputs = NV * (1 + config.model.drift)
    model = list(pairwise((width, *(config.model.width,) * config.model.depth, outputs)))
    actor = list(pairwise((observation_dim(EXPERT_TERMS), *config.hidden, NUM_JOINTS)))
    windows = config.model_updates * config.dynamics.batch * config.dynamics.window
    each = 2 * forward_flops(model) + gradient_flops(actor) + forward_flops(actor[:1])
    return windows * gradient_flops(model) + experts * imagined_steps(config) * each
