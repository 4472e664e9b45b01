"""One action, batch 1: each size by XLA and by ONNX Runtime, with its cache and over its window, beside the floor."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float
from onnx import TensorProto, helper

from scaling.bench.row import Row
from scaling.contract.normaliser import CLIP, Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.policy.archive import pack
from scaling.policy.check import latency
from scaling.policy.export import export_policy, read_student
from scaling.policy.load import BACKENDS, load_policy
from scaling.policy.onnx_graph import OPSET, Graph
from scaling.policy.program import forward
from scaling.students import model
from scaling.students.attention import rotation
from scaling.students.config import StudentConfig
from scaling.students.ladder import ladder

OBS = observation_dim(STUDENT_TERMS)
OPEN_TARGET = 2.0  # s, of size S
_OPEN = """
import sys, time
began = time.perf_counter()
sys.modules.update({name: None for name in ("jax", "flax", "brax", "optax", "orbax", "grain", "onnx")})
from scaling.policy.load import load_policy
load_policy(sys.argv[1], backend="onnx")
print(time.perf_counter() - began)
"""


def export_fresh(size: str, out: Path) -> Path:
    """A policy of untrained weights: what it costs to run does not depend on what it has learned."""
    config = ladder("transformer", size, OBS)
    normaliser = Normaliser(np.zeros(OBS, np.float32), np.ones(OBS, np.float32))
    params = model.init(config, jax.random.key(0))
    return export_policy(config, params, normaliser, np.full(29, 0.1, np.float32), {}, out)


def latency_rows(sizes: tuple[str, ...], steps: int) -> Iterator[Row]:
    """Median and 99th percentile (ms) by size, program and memory; the floor is every weight read once."""
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = export_fresh(size, Path(scratch) / size)
            yield from _of_size(folder, size, steps)


def _of_size(folder: Path, size: str, steps: int) -> Iterator[Row]:
    speed = bandwidth()
    parameters = load_policy(folder, backend="onnx").manifest.parameters
    floor = f"weights_floor_{size}"
    yield Row(f"read_bandwidth_{size}", speed / 1e9, "GB/s")
    yield Row(floor, 1e3 * 4 * parameters / speed, "ms", higher_is_better=False)
    for backend in BACKENDS:
        for memory, actor in (("cache", load_policy(folder, backend=backend)), ("window", _window(folder, backend))):
            found = latency(actor, steps)
            name = f"act_{size}_{backend}_{memory}"
            yield Row(name, found["median"], "ms", higher_is_better=False)
            yield Row(f"{name}_p99", found["p99"], "ms", higher_is_better=False)
            ratio = found["median"] * speed / (1e3 * 4 * parameters)
            yield Row(f"{name}_over_floor", ratio, "x", higher_is_better=False, ratio_to=floor)


def bandwidth() -> float:
    """Bytes a second that one core reads from memory beyond every cache, the best of seven."""
    large = np.ones(1 << 25, np.float32)  # 128 MiB
    took = []
    for _ in range(7):
        began = time.perf_counter()
        large.sum()
        took.append(time.perf_counter() - began)
    return large.nbytes / min(took)


def open_rows(folder: Path, size: str, target: float | None) -> Iterator[Row]:
    """Seconds until a fresh process without the training stack has a policy ready, imports included."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in (("", folder), ("_zip", pack(folder, Path(scratch) / "policy.zip"))):
            command = [sys.executable, "-c", _OPEN, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            yield Row(f"open_{size}_onnx{name}", float(done.stdout), "s", target, higher_is_better=False)


class WindowPolicy:
    """A policy without a cache: every action is computed from the last `context` observations anew."""

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], context: int) -> None:
        self._run, self.obs_dim = run, OBS
        self._seen = np.zeros((context, OBS), np.float32)
        self.reset()
        self.act(self._seen[0])

    def reset(self) -> None:
        """Forget the episode."""
        self._seen[:] = 0

    def act(self, obs: Float[np.ndarray, "obs"]) -> Float[np.ndarray, "29"]:
        """The action of the newest observation."""
        self._seen[:-1] = self._seen[1:]
        self._seen[-1] = obs
        return self._run(self._seen)


def _window(folder: Path, backend: str) -> WindowPolicy:
    config, weights = read_student(folder)
    if backend == "xla":
        held, start = jax.device_put(weights), jnp.zeros((1, config.context), bool)
        program = jax.jit(lambda weights, obs: forward(config, weights, obs[None], start)[0, -1])
        return WindowPolicy(lambda seen: np.asarray(program(held, seen)), config.context)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = window_model(config, weights).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return WindowPolicy(lambda seen: session.run(["action"], {"obs": seen})[0], config.context)


def window_model(config: StudentConfig, weights: dict[str, Any]) -> Any:
    """ONNX of `obs` [context, obs] -> `action` [29] of the last frame, by the same nodes as the cached program."""
    graph, frames = Graph(weights), config.context
    heads, size = config.heads or 1, config.head_dim
    cos, sin = (graph.const(np.asarray(x)[:, None]) for x in rotation(jnp.arange(frames), frames, size))
    hidden = np.triu(np.full((frames, frames), np.finfo(np.float32).min, np.float32), 1)
    mask, scale = graph.const(hidden), graph.const(np.float32(size**-0.5))

    def rotated(x: str) -> str:
        first, second = graph.op("Split", x, axis=-1, num_outputs=2, outputs=2)
        left = graph.op("Sub", graph.op("Mul", first, cos), graph.op("Mul", second, sin))
        right = graph.op("Add", graph.op("Mul", first, sin), graph.op("Mul", second, cos))
        return graph.op("Concat", left, right, axis=-1)

    centred = graph.op("Sub", "obs", graph.weight("normaliser/mean"))
    scaled = graph.op("Div", centred, graph.weight("normaliser/std"))
    x = graph.dense(graph.op("Clip", scaled, graph.const(-CLIP), graph.const(CLIP)), "embed", True)
    for layer in range(config.depth):
        name = f"blocks_{layer}"
        y = graph.dense(graph.norm(x, f"{name}/attention_norm"), f"{name}/attention/qkv", False)
        parts = graph.op("Split", graph.reshape(y, (frames, 3 * heads, size)), axis=1, num_outputs=3, outputs=3)
        query = graph.op("Transpose", rotated(parts[0]), perm=[1, 0, 2])
        key = graph.op("Transpose", rotated(parts[1]), perm=[1, 2, 0])
        value = graph.op("Transpose", parts[2], perm=[1, 0, 2])
        scores = graph.op("Add", graph.op("Mul", graph.op("MatMul", query, key), scale), mask)
        out = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
        out = graph.reshape(graph.op("Transpose", out, perm=[1, 0, 2]), (frames, config.width))
        x = graph.op("Add", x, graph.dense(out, f"{name}/attention/out", False))
        up = graph.silu(graph.dense(graph.norm(x, f"{name}/feed_forward_norm"), f"{name}/feed_forward/up", False))
        x = graph.op("Add", x, graph.dense(up, f"{name}/feed_forward/down", False))
    last = graph.op("Gather", x, graph.const(frames - 1, np.int64), axis=0)
    action = graph.dense(graph.unsqueeze(graph.norm(last, "final_norm"), 0), "head", True)
    graph.op("Mul", graph.reshape(action, (-1,)), graph.weight("normaliser/action_scale"), name="action")
    seen = helper.make_tensor_value_info("obs", TensorProto.FLOAT, [frames, config.obs_dim])
    done = helper.make_tensor_value_info("action", TensorProto.FLOAT, [config.action_dim])
    body = helper.make_graph(graph.nodes, "window", [seen], [done], list(graph.initialisers.values()))
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = 10
    onnx.checker.check_model(made)
    return made
