"""Experts: the environment beside bare physics, many experts beside one, PPO beside its roofline, dreamed ones."""

from collections.abc import Iterator

import jax

from scaling.bench import dream, env_step, ppo
from scaling.bench.row import Row


def rows(quick: bool, algorithm: str = "ppo") -> Iterator[Row]:
    """Steps a second, their ratios, compile times, and what the published experts would cost on this machine.

    `algorithm`: "ppo", "dream" or "both".
    """
    store = env_step.make_clips()
    if algorithm != "ppo":
        yield from dream.rows(store, *(((4,), 3) if quick else ((1, 4, 16), 5)))
    if algorithm == "dream":
        return
    yield from env_step.rows(store, *((256, 16, 5) if quick else (1024, 32, 11)))
    if not quick:
        yield from env_step.backend_rows(batch=128, steps=8, repeats=5)
    yield from ppo.rows(store, sizes(quick))


def sizes(quick: bool) -> ppo.Sizes:
    """What is measured on the devices at hand: on an accelerator the published 384 experts and 32 k environments."""
    if jax.default_backend() == "cpu":
        return ppo.Sizes((1, 8), 256, 3) if quick else ppo.Sizes((1, 8, 64), 2048, 5, compiles=3)
    return ppo.Sizes((1, 8), 8192, 3) if quick else ppo.Sizes((1, 8, 64, 384), 32256, 5, compiles=1)
