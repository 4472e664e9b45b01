"""Students: the bank's labels, batches, decoding beside running the window anew, training beside plain products."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.bench.labelling import data_path, labelling, reader
from scaling.bench.row import Row
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.distill.buffer import Batch
from scaling.distill.config import DaggerConfig
from scaling.distill.rollout import Frozen
from scaling.distill.update import make_init, make_optimiser, make_update
from scaling.memory import keep_freed_memory
from scaling.record.timing import medians
from scaling.students import decode, model
from scaling.students.config import StudentConfig
from scaling.students.count import training_flops_per_token
from scaling.students.ladder import ladder

OBS = observation_dim(STUDENT_TERMS)
SHARE, SHARE_GPU = 0.5, 0.4
"""Of the matrix products' FLOP/s, a training step must keep so much: B in float32 on a CPU, L in bfloat16 on a GPU."""
_CACHE = 64e6  # bytes
OVER_READ = 1.5
"""Times as long as its weights take to be read once, a cached step of L may take."""


def rows(quick: bool) -> Iterator[Row]:
    """Labelling by the bank, the data path, latency at batch 1, FLOP/s and memory of a training step."""
    keep_freed_memory()  # as whoever trains students does
    yield from labelling(32 if quick else 384, repeats=5 if quick else 11)
    yield from data_path("0.2M" if quick else "S", updates=12)
    for size in ("1M",) if quick else ("1M", "S", "B", "L"):
        yield from _decoding(size, ladder("transformer", size, OBS), repeats=50 if quick or size == "L" else 200)
    gpu = jax.default_backend() == "gpu"
    for size in ("1M",) if quick else ("1M", "B", *(["L"] if gpu else [])):
        config = ladder("transformer", size, OBS)
        target = {"B": None if gpu else SHARE, "L": SHARE_GPU}.get(size)
        if size == "L":
            config = replace(config, dtype="bfloat16")
        sequences, length = (256, config.context) if size == "L" else (8, 2 * config.context)
        yield from _training(size, config, sequences, length, repeats=7 if quick else 11, target=target)
    for remat in (False,) if quick else (False, True):
        size = "1M" if quick else "L"
        config = replace(ladder("transformer", size, OBS), remat=remat, dtype="bfloat16" if gpu else "float32")
        yield _memory(f"train_memory_{size}{'_remat' if remat else ''}", config, 256, config.context)


def _decoding(size: str, config: StudentConfig, repeats: int) -> Iterator[Row]:
    """One cached step beside the forward of the whole window that it stands for.

    Where no cache holds the weights, also beside reading them once.
    """
    params = model.init(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    window = jnp.asarray(rng.normal(size=(1, config.window, OBS)), jnp.float32)
    step = jax.jit(lambda params, state, obs: decode.step(config, params, state, obs))
    forward = jax.jit(lambda params, obs: model.forward(config, params, obs)[:, -1])
    state = decode.init_state(config, 1)
    for frame in range(config.window):
        _, state = step(params, state, window[:, frame])
    ways: dict[str, Callable[[], object]] = {
        "step": lambda: jax.block_until_ready(step(params, state, window[:, -1])),
        "window": lambda: jax.block_until_ready(forward(params, window)),
    }
    weights = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])
    if weights.nbytes > _CACHE:
        ways["read"] = reader(weights)
    took = medians(ways, repeats, warm=3)
    yield Row(f"decode_step_{size}", 1e3 * took["step"], "ms", higher_is_better=False)
    yield Row(f"window_forward_{size}", 1e3 * took["window"], "ms", higher_is_better=False)
    yield Row(f"decode_speedup_{size}", took["window"] / took["step"], "x", ratio_to=f"window_forward_{size}")
    if "read" in took:
        target = OVER_READ if size == "L" else None
        yield Row(f"weights_read_{size}", weights.nbytes / took["read"] / 1e9, "GB/s")
        yield Row(f"decode_over_read_{size}", took["step"] / took["read"], "x", target, False, f"weights_read_{size}")


def _training(
    size: str, config: StudentConfig, sequences: int, length: int, repeats: int, target: float | None
) -> Iterator[Row]:
    """One DAgger update of one run beside products of its feed-forward layer's shape."""
    tokens = sequences * length
    flops = tokens * training_flops_per_token(config, length)
    held, update, frozen, batch = _update(config, sequences, length)

    def train() -> None:
        held[0], loss = update(held[0], frozen, batch)
        jax.block_until_ready((held[0], loss))

    rng = np.random.default_rng(1)
    left = jnp.asarray(rng.normal(size=(tokens, config.width)), config.dtype)
    right = jnp.asarray(rng.normal(size=(config.width, config.hidden)), config.dtype)
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


def _memory(name: str, config: StudentConfig, sequences: int, length: int) -> Row:
    """What the compiler sets aside for an update of one run: students and moments, batch, and all in between."""
    optimiser = make_optimiser(DaggerConfig(), 1e-3)
    init = make_init(config, optimiser)
    state = jax.eval_shape(init, jax.random.split(jax.random.key(0), 1), np.ones(1, np.float32))

    def shape(*dims: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((1, *dims), dtype)

    frozen = Frozen(Normaliser(shape(OBS), shape(OBS)), shape(29))
    lead = (sequences, length)
    batch = Batch(
        *(
            shape(*lead, *rest, dtype=dtype)
            for rest, dtype in (((OBS,), jnp.float32), ((), jnp.bool_), ((29,), jnp.float32))
        )
    )
    update: Any = make_update(config, optimiser)
    found = update.lower(state, frozen, batch).compile().memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Row(name, (held + found.temp_size_in_bytes) / 1e9, "GB", higher_is_better=False)


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
