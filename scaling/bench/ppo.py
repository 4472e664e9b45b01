"""Whole PPO training: many experts beside one, its roofline, its compile time, and the bill of the published recipe."""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import Array, Key

from scaling.bench.env_step import Visits, Work, bare_physics, visits, whole_task
from scaling.bench.ppo_flops import flops_per_step, layers
from scaling.bench.row import Row
from scaling.experts.loss import policy
from scaling.experts.mesh import ExpertConfig, Program
from scaling.experts.ppo import PPOConfig, make_networks
from scaling.record.timing import medians
from scaling.tracking.env import Task, TrackingEnv
from scaling.tracking.physics import make_physics
from scaling.tracking.reference import ClipStore

MANY = 8
"""Experts that share one expert's environments."""
MANY_SHARE = 0.9
ROOFLINE_SHARE = 0.75
COMPILE_GROWTH = 1.3
PUBLISHED_EXPERTS, PUBLISHED_STEPS = 384, 3e9
"""The published bank: 12,000 hours of one RTX 4090."""

_SETTLING = 3  # iterations after which robots fall and start again as they do all through a training
_ENDLESS = 10**9  # iterations: an expert that has spent its budget stands still


@dataclass(frozen=True)
class Sizes:
    """`experts`: how many at once, run by run, over the same `envs` in all; `compiles`: times that compiling is timed.

    `config` is what is trained; its `envs` follow from the above.
    """

    experts: tuple[int, ...]
    envs: int
    repeats: int
    compiles: int = 0
    config: PPOConfig = field(default_factory=PPOConfig)

    def __post_init__(self) -> None:
        if not {1, MANY} <= set(self.experts):
            raise ValueError(f"experts {self.experts}: 1 and {MANY} are what the ratio is of")
        for count in self.experts:
            if self.envs % count:
                raise ValueError(f"envs {self.envs} are not a multiple of {count} experts")

    def of(self, experts: int) -> PPOConfig:
        """The config of one of `experts` experts, which starts without a clone: that is no part of an iteration."""
        return replace(self.config, envs=self.envs // experts, iterations=_ENDLESS, warm_start=0.0)


def rows(store: ClipStore, sizes: Sizes) -> Iterator[Row]:
    """All of it taken in turns: PPO with each number of experts, bare physics and matrix products."""
    physics = make_physics("auto")
    env = TrackingEnv(physics, sizes.config.env)
    one, config = whole_task(store), sizes.of(MANY)
    if sizes.compiles:
        yield from compile_rows(env, one, sizes)
    steps = sizes.envs * config.unroll
    ways: dict[str, Any] = {str(count): Training(env, one, sizes.of(count), count) for count in sizes.experts}
    with ThreadPoolExecutor() as pool:
        list(pool.map(Training.compile, ways.values()))
    products, product_flops = _product(config, sizes.envs)
    with bare_physics(physics, ppo_visits(ways["1"], sizes.of(1), env, one)) as bare:
        took = medians({**ways, "bare": bare, "product": products}, sizes.repeats)
    for count in sizes.experts:
        yield Row(f"ppo_{count}_experts", steps / took[str(count)], "control steps/s")
    for count in sizes.experts[1:]:
        target = MANY_SHARE if count == MANY else None
        yield Row(
            f"ppo_{count}_experts_share", took["1"] / took[str(count)], "x", target=target, ratio_to="ppo_1_experts"
        )
    physics_seconds = took["bare"] / steps
    update_seconds = flops_per_step(config) * took["product"] / product_flops
    roofline = 1.0 / (physics_seconds + update_seconds)
    yield Row("bare_physics", 1.0 / physics_seconds, "control steps/s")
    yield Row("matrix_product", product_flops / took["product"] / 1e9, "GFLOP/s")
    yield Row("ppo_flops", flops_per_step(config) / 1e6, "MFLOP/control step", higher_is_better=False)
    yield Row("ppo_roofline", roofline, "control steps/s")
    yield Row(
        "ppo_share_of_roofline", steps / took[str(MANY)] / roofline, "x", target=ROOFLINE_SHARE, ratio_to="ppo_roofline"
    )
    yield from bill_rows(steps / took[str(max(sizes.experts))], roofline, physics_seconds * roofline)


def bill_rows(measured: float, roofline: float, physics_share: float) -> Iterator[Row]:
    """Device-hours of the published bank at so many control steps a second, and what its roofline is made of."""
    wanted = PUBLISHED_EXPERTS * PUBLISHED_STEPS / 3600.0
    yield Row("published_bank", wanted / measured, "device-hours", higher_is_better=False)
    yield Row("published_bank_at_roofline", wanted / roofline, "device-hours", higher_is_better=False)
    yield Row("roofline_physics_share", physics_share, "x", ratio_to="ppo_roofline, seconds a step")


def compile_rows(env: TrackingEnv, one: Task, sizes: Sizes) -> Iterator[Row]:
    """Lowering and compiling one PPO iteration, the persistent cache off: one expert beside many."""
    most = 64
    seconds: dict[int, list[float]] = {1: [], most: []}
    for _ in range(sizes.compiles):
        for count, taken in seconds.items():
            taken.append(compile_seconds(env, one, sizes.of(count), count))
    alone, many = (statistics.median(taken) for taken in seconds.values())
    yield Row("compile_1_expert", alone, "s", higher_is_better=False)
    yield Row(f"compile_{most}_experts", many, "s", higher_is_better=False)
    yield Row(
        f"compile_{most}_experts_growth", many / alone, "x", target=COMPILE_GROWTH, higher_is_better=False,
        ratio_to="compile_1_expert",
    )  # fmt: skip


def compile_seconds(env: TrackingEnv, one: Task, config: PPOConfig, experts: int) -> float:
    """From Python to a program that can run; a fresh `Program` each time, so that nothing of it is remembered."""
    program, task = Program(env, config, 1), _spread(one, experts)
    state = jax.eval_shape(program.init, _keys(experts), task)
    with uncached():
        began = time.perf_counter()
        jax.jit(program.advance).lower(state, task).compile()
        return time.perf_counter() - began


@contextmanager
def uncached() -> Iterator[None]:
    """JAX's persistent compilation cache off; it looks at the switch only after a reset."""
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


class Training:
    """So many experts on the same clips: `compile` it, then each call is one iteration that goes on."""

    def __init__(self, env: TrackingEnv, one: Task, config: ExpertConfig, experts: int) -> None:
        program = Program(env, config, 1)
        self.config = config
        self._task = _spread(one, experts)
        self._state = program.init(_keys(experts), self._task)
        self._lowered = jax.jit(program.advance, donate_argnums=0).lower(self._state, self._task)

    def compile(self) -> None:
        """XLA works outside the interpreter's lock: several may compile side by side."""
        self._run = self._lowered.compile()

    def __call__(self) -> None:
        """One iteration, waited for."""
        self._state, metrics = self._run(self._state, self._task)
        jax.block_until_ready((self._state, metrics))

    def settle(self) -> Any:
        """The state some iterations into the training."""
        for _ in range(_SETTLING):
            self()
        return self._state


def ppo_visits(training: Training, config: PPOConfig, env: TrackingEnv, one: Task) -> Visits:
    """What the physics meets in an iteration of this (single) expert."""
    state = jax.tree.map(lambda x: x[0], training.settle())
    networks = make_networks(config)

    def act(obs: Array, key: Key[Array, ""]) -> Array:
        mean, std = policy(networks, state.normaliser, state.params.policy, obs)
        return mean + std * jax.random.normal(key, mean.shape)

    return visits(env, one, state.env, act, config.unroll)


def _spread(one: Task, experts: int) -> Task:
    """The same clips for each expert."""
    clips, weights = (jnp.broadcast_to(x, (experts, *x.shape)) for x in (one.clips, one.weights))
    return one._replace(clips=clips, weights=weights)


def _keys(experts: int) -> np.ndarray:
    return np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), experts)))


def _product(config: PPOConfig, envs: int) -> tuple[Work, int]:
    """Products of the shape of the actor's first layer over a minibatch of all experts, and their FLOPs a call."""
    inputs, outputs = layers(config)[0][0]
    return product(envs * config.unroll // config.minibatches, inputs, outputs)


def product(batch: int, inputs: int, outputs: int) -> tuple[Work, int]:
    """Products of `[batch, inputs] x [inputs, outputs]` and back, and their FLOPs a call."""
    rng = np.random.default_rng(0)
    left = jnp.asarray(rng.normal(size=(batch, inputs)), jnp.float32)
    right = jnp.asarray(rng.normal(size=(inputs, outputs)), jnp.float32)
    pairs = 8

    @jax.jit
    def products(left: Any, right: Any) -> Any:
        # Forth and back, so that no product can be dropped or shared.
        return jax.lax.fori_loop(0, pairs, lambda _, x: (x @ right) @ right.T * 1e-3, left)

    return lambda: jax.block_until_ready(products(left, right)), 4 * pairs * batch * inputs * outputs
