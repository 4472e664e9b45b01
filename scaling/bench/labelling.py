"""Labelling by a bank beside reading it once and a loop over ONNX Runtime; what an update waits for its batch."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from jaxtyping import Array, Float
from onnx import TensorProto, helper, numpy_helper

from scaling.bench.row import Row
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, STUDENT_TERMS, observation_dim
from scaling.distill.buffer import Batch, Buffer
from scaling.distill.config import DaggerConfig
from scaling.distill.data import Stream
from scaling.distill.rollout import Frozen
from scaling.distill.slots import Seat, label, lay_out
from scaling.distill.update import make_init, make_optimiser, make_update
from scaling.experts.bank import Bank
from scaling.record.timing import medians
from scaling.students.ladder import ladder

SEEN, ALL = observation_dim(STUDENT_TERMS), observation_dim(EXPERT_TERMS)
HIDDEN = (512, 512, 128)
"""Of one expert: 456 k parameters, so that 384 are 175 M."""
STATES = 11  # per expert
OVER_READ, OVER_LOOP, WAIT = 2.0, 10.0, 0.05


def labelling(experts: int, repeats: int) -> Iterator[Row]:
    """All experts label `STATES` states each, in one batched forward."""
    bank = _bank(experts)
    slots = lay_out([[Seat(k, np.zeros(1, np.int32), np.ones(1)) for k in range(experts)]], experts)
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(1, experts, STATES, ALL)).astype(np.float32)
    ask, given = jax.jit(label), jnp.asarray(obs)
    read, gpu = reader(bank), jax.default_backend() == "gpu"
    sessions = [_session(bank, k) for k in range(experts)]
    ways = {
        "label": lambda: jax.block_until_ready(ask(bank, slots.seats, given)),
        "read": read,
        "loop": lambda: [session.run(None, {"obs": obs[0, k]}) for k, session in enumerate(sessions)],
    }
    apart = max(float(np.abs(ways["label"]()[0, k] - one[0]).max()) for k, one in enumerate(ways["loop"]()))
    if apart > 1e-3:
        raise AssertionError(f"bank and sessions differ by {apart}")
    took = medians(ways, repeats)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(bank))
    yield Row(f"label_{experts}", 1e3 * took["label"], "ms", higher_is_better=False)
    yield Row(f"bank_read_{experts}", size / took["read"] / 1e9, "GB/s")
    yield Row(f"label_over_read_{experts}", took["label"] / took["read"], "x", OVER_READ, False, f"bank_read_{experts}")
    yield Row(f"onnx_loop_{experts}", 1e3 * took["loop"], "ms", higher_is_better=False)
    target = OVER_LOOP if gpu else None
    yield Row(f"label_speedup_{experts}", took["loop"] / took["label"], "x", target, ratio_to=f"onnx_loop_{experts}")


def _bank(experts: int) -> Bank:
    rng = np.random.default_rng(0)
    sizes = (ALL, *HIDDEN, 29)
    layers = list(itertools.pairwise(sizes))
    kernels = tuple(
        jnp.asarray(rng.standard_normal((experts, i, o), np.float32) / np.float32(np.sqrt(i))) for i, o in layers
    )
    wide = jnp.ones((experts, ALL))
    return Bank(kernels, tuple(jnp.zeros((experts, o)) for _, o in layers), Normaliser(0 * wide, wide))


def reader(weights: Any) -> Callable[[], object]:
    """Reads weights once: on the host by NumPy on all cores (XLA adds floats in order there, slower than memory)."""
    if jax.default_backend() != "cpu":
        total = jax.jit(lambda tree: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(tree)))
        return lambda: jax.block_until_ready(total(weights))
    cores = os.cpu_count() or 1
    pool = ThreadPoolExecutor(cores)
    parts = [part for leaf in jax.tree.leaves(weights) for part in np.array_split(np.asarray(leaf), cores)]
    return lambda: sum(pool.map(np.sum, parts))


def _session(bank: Bank, expert: int) -> onnxruntime.InferenceSession:
    """One expert as a session of its own, on one thread."""
    bounds = np.array([-10.0, 10.0], np.float32)
    weights: list[Any] = [numpy_helper.from_array(np.asarray(bounds[i]), f"bound{i}") for i in range(2)]
    nodes = [helper.make_node("Clip", ["obs", "bound0", "bound1"], ["x0"])]
    last = len(bank.kernels) - 1
    for index, (kernel, bias) in enumerate(zip(bank.kernels, bank.biases, strict=True)):
        weights.append(numpy_helper.from_array(np.asarray(kernel[expert]), f"kernel{index}"))
        weights.append(numpy_helper.from_array(np.asarray(bias[expert]), f"bias{index}"))
        out = "action" if index == last else f"y{index}"
        nodes.append(helper.make_node("Gemm", [f"x{index}", f"kernel{index}", f"bias{index}"], [out]))
        if index < last:
            nodes.append(helper.make_node("Sigmoid", [out], [f"s{index}"]))
            nodes.append(helper.make_node("Mul", [out, f"s{index}"], [f"x{index + 1}"]))
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [STATES, width])
        for name, width in (("obs", ALL), ("action", 29))
    ]
    graph = helper.make_graph(nodes, "expert", shapes[:1], shapes[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def data_path(size: str, updates: int) -> Iterator[Row]:
    """Updates fed as DAgger feeds them: the longest share of an update that was spent waiting for its batch."""
    config, student = DaggerConfig(updates=updates), ladder("transformer", size, SEEN)
    optimiser = make_optimiser(config, config.rate_for(student))
    state = make_init(student, optimiser)(jax.random.split(jax.random.key(0), 1), np.ones(1, np.float32))
    update, wide = make_update(student, optimiser), jnp.ones((1, SEEN))
    frozen = Frozen(Normaliser(0 * wide, wide), jnp.ones((1, 29)))
    batches = Stream(_buffer(config), [0], config.batch).batches(0, updates, config.threads)
    shares, steps = [], []
    for _ in range(updates):
        began = time.perf_counter()
        batch = jax.block_until_ready(next(batches))
        there = time.perf_counter()
        state, loss = update(state, frozen, batch)
        jax.block_until_ready(loss)
        done = time.perf_counter()
        shares.append((there - began) / (done - began))
        steps.append(done - began)
    yield Row(f"fed_update_{size}", 1e3 * float(np.median(steps[2:])), "ms", higher_is_better=False)
    yield Row(f"data_wait_{size}", max(shares[2:]), "x", WAIT, False, f"fed_update_{size}")


def _buffer(config: DaggerConfig) -> Buffer:
    """A round of noise."""
    rng = np.random.default_rng(2)
    lead = (1, config.sequences(1), config.steps)

    def noise(width: int) -> Float[Array, "1 N T d"]:
        return rng.standard_normal((*lead, width), np.float32)  # type: ignore[return-value]

    buffer = Buffer(config.buffer_mb, config.sequences(1) * config.rounds)
    buffer.add(Batch(noise(SEEN), np.zeros(lead, bool), noise(29)))
    return buffer
