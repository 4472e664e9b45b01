"""Students: the bank's labels, batches, decoding beside running the window anew, training beside plain products."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.bench.labelling import data_path, labelling
from scaling.bench.row import Row
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.rollout import Frozen
from scaling.distill.update import make_init, make_optimiser, make_update
from scaling.record.timing import medians
from scaling.students import decode, model
from scaling.students.config import StudentConfig
from scaling.students.count import training_flops_per_token
from scaling.students.ladder import ladder

OBS = observation_dim(STUDENT_TERMS)
SHARE = 0.5
"""Of the matrix products' FLOP/s, a training step of size B must keep so much."""


def rows(quick: bool) -> Iterator[Row]:
    """Labelling by the bank, the data path, latency at batch 1, and FLOP/s of a training step."""
    yield from labelling(32 if quick else 384, repeats=5 if quick else 11)
    yield from data_path("0.2M" if quick else "S", updates=12)
    for size in ("1M",) if quick else ("1M", "S", "B"):
        yield from _decoding(size, ladder("transformer", size, OBS), repeats=50 if quick else 200)
    for size in ("1M",) if quick else ("1M", "B"):
        config = ladder("transformer", size, OBS)
        yield from _training(
            size, config, sequences=8, repeats=7 if quick else 11, target=SHARE if size == "B" else None
        )


def _decoding(size: str, config: StudentConfig, repeats: int) -> Iterator[Row]:
    """One cached step beside the forward of the whole window that it stands for."""
    params = model.init(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    window = jnp.asarray(rng.normal(size=(1, config.window, OBS)), jnp.float32)
    step = jax.jit(lambda params, state, obs: decode.step(config, params, state, obs))
    forward = jax.jit(lambda params, obs: model.forward(config, params, obs)[:, -1])
    state = decode.init_state(config, 1)
    for frame in range(config.window):
        _, state = step(params, state, window[:, frame])
    ways = {
        "step": lambda: jax.block_until_ready(step(params, state, window[:, -1])),
        "window": lambda: jax.block_until_ready(forward(params, window)),
    }
    took = medians(ways, repeats, warm=3)
    yield Row(f"decode_step_{size}", 1e3 * took["step"], "ms", higher_is_better=False)
    yield Row(f"window_forward_{size}", 1e3 * took["window"], "ms", higher_is_better=False)
    yield Row(f"decode_speedup_{size}", took["window"] / took["step"], "x", ratio_to=f"window_forward_{size}")


def _training(size: str, config: StudentConfig, sequences: int, repeats: int, target: float | None) -> Iterator[Row]:
    """One DAgger update of one run beside products of its feed-forward layer's shape."""
    length = 2 * config.context
    tokens = sequences * length
    flops = tokens * training_flops_per_token(config, length)
    held, update, frozen, batch = _update(config, sequences, length)

    def train() -> None:
        held[0], loss = update(held[0], frozen, batch)
        jax.block_until_ready((held[0], loss))

    rng = np.random.default_rng(1)
    left = jnp.asarray(rng.normal(size=(tokens, config.width)), jnp.float32)
    right = jnp.asarray(rng.normal(size=(config.width, config.hidden)), jnp.float32)
    product_flops = 2 * tokens * config.width * config.hidden
    count = max(1, round(flops / product_flops))

    @jax.jit
    def products(left: Any, right: Any) -> Any:
        # Forth and back, so that no product can be dropped or shared.
        return jax.lax.fori_loop(0, (count + 1) // 2, lambda _, x: (x @ right) @ right.T * 1e-3, left)

    took = medians({"train": train, "product": lambda: jax.block_until_ready(products(left, right))}, repeats)
    mine, plain = flops / took["train"], 2 * ((count + 1) // 2) * product_flops / took["product"]
    yield Row(f"train_step_{size}", mine / 1e9, "GFLOP/s")
    yield Row(f"matrix_product_{size}", plain / 1e9, "GFLOP/s")
    yield Row(f"train_step_share_{size}", mine / plain, "x", target=target, ratio_to=f"matrix_product_{size}")


def _update(config: StudentConfig, sequences: int, length: int) -> tuple[list[Any], Any, Frozen, Batch]:
    """A fresh run in training, its update, and a batch of noise."""
    optimiser = make_optimiser(DaggerConfig(), 1e-3)
    held = [make_init(config, optimiser)(jax.random.split(jax.random.key(0), 1), np.ones(1, np.float32))]
    rng = np.random.default_rng(2)
    ones = jnp.ones((1, OBS))
    frozen = Frozen(Normaliser(jnp.zeros((1, OBS)), ones), jnp.ones((1, 29)))
    batch = Batch(
        rng.normal(size=(1, sequences, length, OBS)).astype(np.float32),
        np.zeros((1, sequences, length), bool),
        rng.normal(size=(1, sequences, length, 29)).astype(np.float32),
    )
    return held, make_update(config, optimiser), frozen, batch
