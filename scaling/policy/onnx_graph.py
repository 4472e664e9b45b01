"""The same step as an ONNX graph written by hand: what the base install runs, without JAX."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scaling import __version__
from scaling.contract.manifest import present_contract
from scaling.contract.normaliser import CLIP
from scaling.students.attention import period, turns
from scaling.students.config import StudentConfig

OPSET = 20
NEXT = "next."
_EPSILON = 1e-6  # linen's RMSNorm


class Graph:
    """Nodes and initialisers in the order in which they are asked for."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.nodes: list[Any] = []
        self.initialisers: dict[str, Any] = {}
        self._weights = weights

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        """One node; the name of its output, or their list."""
        names = [name or f"{kind.lower()}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        """An anonymous constant, each value once."""
        array = np.asarray(value, dtype)
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]  # not `hash`, which each process salts anew
        name = f"const_{array.dtype.name}_{'x'.join(map(str, array.shape))}_{digest}"
        self.initialisers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> str:
        """A trained array by its name in the parameters."""
        self.initialisers[name] = numpy_helper.from_array(np.asarray(self._weights[name], np.float32), name)
        return name

    def dense(self, x: str, name: str, bias: bool) -> str:
        """Linear layer `params/name`."""
        y = self.op("MatMul", x, self.weight(f"params/{name}/kernel"))
        return self.op("Add", y, self.weight(f"params/{name}/bias")) if bias else y

    def silu(self, x: str) -> str:
        """x * sigmoid(x)."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def norm(self, x: str, name: str) -> str:
        """RMSNorm `params/name`."""
        square = self.op("ReduceMean", self.op("Mul", x, x), self.const([-1], np.int64), keepdims=1)
        root = self.op("Sqrt", self.op("Add", square, self.const(_EPSILON)))
        return self.op("Mul", self.op("Div", x, root), self.weight(f"params/{name}/scale"))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Reshape (0 keeps, -1 solves)."""
        return self.op("Reshape", x, self.const(shape, np.int64))

    def unsqueeze(self, x: str, *axes: int) -> str:
        """New axes of length one."""
        return self.op("Unsqueeze", x, self.const(axes, np.int64))


def onnx_model(config: StudentConfig, weights: dict[str, Any]) -> Any:
    """`(obs, first, state...) -> (action, next.state...)`, weights inside, batch symbolic; float32 students only.

    Raises ValueError for another dtype.
    """
    if config.dtype != "float32":
        raise ValueError(f"student dtype {config.dtype!r}: the ONNX graph is written for float32")
    graph = Graph(weights)
    centred = graph.op("Sub", "obs", graph.weight("normaliser/mean"))
    scaled = graph.op("Div", centred, graph.weight("normaliser/std"))
    obs = graph.op("Clip", scaled, graph.const(-CLIP), graph.const(CLIP))
    if config.seen is not None:
        obs = graph.op("Gather", obs, graph.const(config.seen, np.int64), axis=1)
    x, state = _FAMILIES[config.family](graph, config, obs)
    graph.op("Mul", graph.dense(x, "head", True), graph.weight("normaliser/action_scale"), name="action")
    inputs = [
        helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", config.obs_dim]),
        helper.make_tensor_value_info("first", TensorProto.BOOL, ["batch"]),
        *(helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in state.items()),
    ]
    outputs = [
        helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", config.action_dim]),
        *(helper.make_tensor_value_info(NEXT + name, kind, shape) for name, (kind, shape) in state.items()),
    ]
    body = helper.make_graph(graph.nodes, "policy", inputs, outputs, list(graph.initialisers.values()))
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="scaling")
    model.producer_version = __version__
    model.ir_version = 10  # what ONNX Runtime 1.24 and newer read
    contract = present_contract()
    known = {name: contract[name] for name in ("robot", "control_hz", "joints", "look_ahead")}
    known["terms"] = [(term.name, term.dim) for term in contract["terms"]]
    helper.set_model_props(model, {"contract": json.dumps(known)})
    onnx.checker.check_model(model)
    return model


def _mlp(graph: Graph, config: StudentConfig, obs: str) -> tuple[str, dict[str, tuple[int, list]]]:
    now = graph.unsqueeze(obs, 1)
    starts, ends, axes = (graph.const([value], np.int64) for value in (1, config.history, 1))
    shifted = graph.op("Concat", graph.op("Slice", "history", starts, ends, axes), now, axis=1)
    fresh = graph.op("Or", "fresh", "first")
    history = graph.op("Where", graph.unsqueeze(fresh, 1, 2), now, shifted, name=f"{NEXT}history")
    graph.op("And", fresh, graph.const(False, np.bool_), name=f"{NEXT}fresh")
    x = graph.reshape(history, (-1, config.history * config.input_dim))
    x = graph.silu(graph.dense(x, "embed", True))
    for layer in range(config.depth - 1):
        x = graph.silu(graph.dense(x, f"feed_forward_{layer}", True))
    return x, {
        "history": (TensorProto.FLOAT, ["batch", config.history, config.input_dim]),
        "fresh": (TensorProto.BOOL, ["batch"]),
    }


def _transformer(graph: Graph, config: StudentConfig, obs: str) -> tuple[str, dict[str, tuple[int, list]]]:
    context, heads, size = config.context, config.heads or 1, config.head_dim
    one, width = graph.const(1, np.int32), graph.const(context, np.int32)
    kept = graph.op("Where", "first", graph.const(0, np.int32), "filled")
    filled = graph.op("Min", graph.op("Add", kept, one), width, name=f"{NEXT}filled")
    slots = graph.const(np.arange(context), np.int32)
    slot = graph.op("Mod", "position", width)
    age = graph.op("Mod", graph.op("Sub", slot, slots), width)
    valid = graph.op("Less", age, graph.unsqueeze(filled, 1))
    here = graph.unsqueeze(graph.op("Equal", slots, slot), 1)
    whole = graph.const(period(context), np.int32)
    phase = graph.op("Mod", graph.op("Mul", "position", graph.const(turns(context, size), np.int32)), whole)
    angle = graph.op(
        "Mul", graph.op("Cast", phase, to=TensorProto.FLOAT), graph.const(np.float32(2 * np.pi / period(context)))
    )
    cos, sin = graph.op("Cos", angle), graph.op("Sin", angle)
    graph.op("Mod", graph.op("Add", "position", one), whole, name=f"{NEXT}position")

    def rotated(x: str) -> str:
        first, second = graph.op("Split", x, axis=-1, num_outputs=2, outputs=2)
        left = graph.op("Sub", graph.op("Mul", first, cos), graph.op("Mul", second, sin))
        right = graph.op("Add", graph.op("Mul", first, sin), graph.op("Mul", second, cos))
        return graph.op("Concat", left, right, axis=-1)

    row, seen = graph.unsqueeze(valid, 1, 2), graph.unsqueeze(valid, 1, 3)
    least, zero = graph.const(np.finfo(np.float32).min), graph.const(0.0)
    x = graph.dense(obs, "embed", True)
    for layer in range(config.depth):
        name = f"blocks_{layer}"
        y = graph.dense(graph.norm(x, f"{name}/attention_norm"), f"{name}/attention/qkv", False)
        parts = graph.op("Split", graph.reshape(y, (-1, 3 * heads, size)), axis=1, num_outputs=3, outputs=3)
        query = graph.unsqueeze(rotated(parts[0]), 3)
        key, value = graph.unsqueeze(rotated(parts[1]), 2), graph.unsqueeze(parts[2], 2)
        keys = graph.op("Where", here, key, f"keys.{layer}", name=f"{NEXT}keys.{layer}")
        values = graph.op("Where", here, value, f"values.{layer}", name=f"{NEXT}values.{layer}")
        scores = graph.op("Mul", graph.op("MatMul", keys, query), graph.const(np.float32(size**-0.5)))
        scores = graph.op("Transpose", scores, perm=[0, 1, 3, 2])
        shares = graph.op("Softmax", graph.op("Where", row, scores, least), axis=-1)
        # A diverged episode leaves NaN in slots that a reset only marks invalid, and 0 * NaN would carry it over.
        out = graph.op("MatMul", shares, graph.op("Where", seen, values, zero))
        x = graph.op("Add", x, graph.dense(graph.reshape(out, (-1, config.width)), f"{name}/attention/out", False))
        up = graph.silu(graph.dense(graph.norm(x, f"{name}/feed_forward_norm"), f"{name}/feed_forward/up", False))
        x = graph.op("Add", x, graph.dense(up, f"{name}/feed_forward/down", False))
    cache = (TensorProto.FLOAT, ["batch", heads, context, size])
    layers = range(config.depth)
    state: dict[str, tuple[int, list]] = {f"{kind}.{n}": cache for kind in ("keys", "values") for n in layers}
    state |= {"position": (TensorProto.INT32, []), "filled": (TensorProto.INT32, ["batch"])}
    return graph.norm(x, "final_norm"), state


def _tcn(graph: Graph, config: StudentConfig, obs: str) -> tuple[str, dict[str, tuple[int, list]]]:
    one, zero, longest = graph.const(1, np.int32), graph.const(0.0), graph.const(max(config.dilations), np.int32)
    kept = graph.op("Where", "first", graph.const(0, np.int32), "filled")
    graph.op("Min", graph.op("Add", kept, one), longest, name=f"{NEXT}filled")
    graph.op("Mod", graph.op("Add", "position", one), longest, name=f"{NEXT}position")
    x = graph.dense(obs, "embed", True)
    for layer, dilation in enumerate(config.dilations):
        name, wide = f"blocks_{layer}", graph.const(dilation, np.int32)
        now = graph.norm(x, f"{name}/norm")
        slot = graph.op("Mod", "position", wide)
        valid = graph.unsqueeze(graph.op("GreaterOrEqual", kept, wide), 1)
        before = graph.op("Where", valid, graph.op("Gather", f"rings.{layer}", slot, axis=1), zero)
        here = graph.unsqueeze(graph.op("Equal", graph.const(np.arange(dilation), np.int32), slot), 1)
        graph.op("Where", here, graph.unsqueeze(now, 1), f"rings.{layer}", name=f"{NEXT}rings.{layer}")
        taps = graph.silu(graph.dense(graph.op("Concat", before, now, axis=1), f"{name}/convolution", True))
        x = graph.op("Add", x, graph.dense(taps, f"{name}/feed_forward", False))
    state: dict[str, tuple[int, list]] = {
        f"rings.{layer}": (TensorProto.FLOAT, ["batch", dilation, config.width])
        for layer, dilation in enumerate(config.dilations)
    }
    state |= {"position": (TensorProto.INT32, []), "filled": (TensorProto.INT32, ["batch"])}
    return graph.norm(x, "final_norm"), state


def _gru(graph: Graph, config: StudentConfig, obs: str) -> tuple[str, dict[str, tuple[int, list]]]:
    zero, one, forget = graph.const(0.0), graph.const(1.0), graph.unsqueeze("first", 1)
    x = graph.dense(obs, "embed", True)
    for layer in range(config.depth):
        name = f"layers_{layer}"
        inputs = graph.dense(graph.norm(x, f"{name}/norm"), f"{name}/gates", True)
        hidden = graph.op("Where", forget, zero, f"hidden.{layer}")
        own = graph.op("MatMul", hidden, graph.weight(f"params/{name}/recurrent"))
        reset, update, new = graph.op("Split", inputs, axis=1, num_outputs=3, outputs=3)
        reset_own, update_own, new_own = graph.op("Split", own, axis=1, num_outputs=3, outputs=3)
        reset = graph.op("Sigmoid", graph.op("Add", reset, reset_own))
        update = graph.op("Sigmoid", graph.op("Add", update, update_own))
        new = graph.op("Tanh", graph.op("Add", new, graph.op("Mul", reset, new_own)))
        kept = graph.op("Mul", update, hidden)
        fresh = graph.op("Mul", graph.op("Sub", one, update), new)
        x = graph.op("Add", x, graph.op("Add", kept, fresh, name=f"{NEXT}hidden.{layer}"))
    return graph.norm(x, "final_norm"), {
        f"hidden.{layer}": (TensorProto.FLOAT, ["batch", config.width]) for layer in range(config.depth)
    }


_FAMILIES = {"mlp": _mlp, "transformer": _transformer, "tcn": _tcn, "gru": _gru}
