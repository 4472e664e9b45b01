"""Export of a student: program, parameters, reference vectors and manifest in one folder, whole or not at all."""

import os
import platform
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Float

from scaling.contract.manifest import (
    MANIFEST,
    StateLeaf,
    check_contract,
    check_files,
    hash_files,
    make_manifest,
    read_manifest,
)
from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import STUDENT_TERMS, observation_dim
from scaling.errors import InputError
from scaling.policy.archive import SUFFIX, is_archive, opened, pack
from scaling.policy.load import BATCH_PROGRAM, ONNX_PROGRAM, PROGRAM
from scaling.policy.loop import Act
from scaling.policy.onnx_graph import onnx_model
from scaling.policy.program import (
    NORMALISER_FILE,
    PARAMS_FILE,
    Weights,
    flatten_params,
    forward,
    make_step,
    state_names,
    unflatten_params,
    weights_of,
)
from scaling.policy.vectors import VECTORS, make_vectors, save_vectors
from scaling.record.files import jsonable, told
from scaling.robot.g1 import NUM_JOINTS
from scaling.students import decode
from scaling.students.config import StudentConfig
from scaling.students.count import closed_form
from scaling.students.model import abstract_params

PLATFORMS = ("cpu", "cuda")
_MADE_BY = ("jax", "jaxlib", "flax", "numpy", "onnx")


def export_policy(
    config: StudentConfig,
    params: Any,
    normaliser: Normaliser,
    action_scale: Float[np.ndarray, "29"],
    row: Mapping[str, Any],
    out_dir: Path | str,
) -> Path:
    """Write the policy and return its path: a folder, or one file where `out_dir` ends in .zip.

    What holds an older policy is replaced, anything else refused.

    `normaliser` and `action_scale` (what one unit of the student's output is in contract actions) become part of the
    program. `row` is the training row (JSON-able; NaN becomes null). Raises InputError for a student that cannot run
    on this contract.
    """
    out = Path(out_dir)
    _check_student(config, params, normaliser, np.asarray(action_scale))
    if out.exists() and not _replaceable(out):
        raise InputError(f"{out} is there and is not a policy folder or zip: name another")
    weights = weights_of(params, normaliser, np.asarray(action_scale))
    scratch = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}"
    try:
        scratch.mkdir(parents=True)
        _write(scratch, config, weights, row)
        if out.suffix == SUFFIX:
            pack(scratch, out)
        else:
            _publish(scratch, out)
    except OSError as error:
        sentence = told(error, out, "exporting to")
        if sentence is not None:
            raise sentence from None
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def _replaceable(out: Path) -> bool:
    if out.suffix == SUFFIX and not out.is_dir():
        return is_archive(out)
    return out.is_dir() and (not any(out.iterdir()) or (out / MANIFEST).is_file())


def read_student(folder: Path) -> tuple[StudentConfig, Weights]:
    """Config and weights of a policy folder, from which it can be exported again when its program has aged.

    Raises InputError where a file is not the one that was exported.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    with np.load(folder / PARAMS_FILE) as params, np.load(folder / manifest.normaliser) as fixed:
        weights = {f"params/{name}": params[name] for name in params.files}
        weights |= {f"normaliser/{name}": fixed[name] for name in fixed.files}
    try:
        return StudentConfig(**manifest.student), weights
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: its student is none that this version knows ({error}): update scaling") from None


def reexport(path: Path | str, out_dir: Path | str) -> Path:
    """The same policy (folder or zip) with programs made by the installed jax."""
    with opened(path) as folder:
        config, weights = read_student(folder)
        row = read_manifest(folder).row
    params = {name.removeprefix("params/"): leaf for name, leaf in weights.items() if name.startswith("params/")}
    normaliser = Normaliser(weights["normaliser/mean"], weights["normaliser/std"])
    return export_policy(config, unflatten_params(params), normaliser, weights["normaliser/action_scale"], row, out_dir)


def _write(folder: Path, config: StudentConfig, weights: Weights, row: Mapping[str, Any]) -> None:
    np.savez(folder / PARAMS_FILE, **_named(weights, "params/"))
    np.savez(folder / NORMALISER_FILE, **_named(weights, "normaliser/"))
    for name, batch in ((PROGRAM, 1), (BATCH_PROGRAM, jax_export.symbolic_shape("batch")[0])):
        (folder / name).write_bytes(bytes(_program(config, weights, batch).serialize()))
    files = [PARAMS_FILE, NORMALISER_FILE, PROGRAM, BATCH_PROGRAM, VECTORS]
    if config.dtype == "float32":
        (folder / ONNX_PROGRAM).write_bytes(onnx_model(config, weights).SerializeToString())
        files.append(ONNX_PROGRAM)
    whole = jax.jit(lambda *args: forward(config, *args))
    save_vectors(folder / VECTORS, make_vectors(weights, whole, _stepper(config, weights)))
    one, two = (jax.tree.leaves(jax.eval_shape(lambda n=n: decode.init_state(config, n))) for n in (1, 2))
    leaves = [
        StateLeaf(name, tuple(-1 if a != b else a for a, b in zip(x.shape, y.shape, strict=True)), x.dtype.name)
        for name, x, y in zip(state_names(config), one, two, strict=True)
    ]
    manifest = make_manifest(
        normaliser=NORMALISER_FILE,
        student=asdict(config),
        parameters=closed_form(config),
        state=leaves,
        row=jsonable(dict(row)),
        files=hash_files(folder, files),
        versions={"python": platform.python_version()} | {name: version(name) for name in _MADE_BY},
    )
    check_contract(manifest)
    manifest.write(folder)


def _stepper(config: StudentConfig, weights: Weights) -> Act:
    """The student one control step at a time, with its memory: what the exported program must do."""
    step = jax.jit(make_step(config))
    held = jax.device_put(weights)
    memory = jax.tree.leaves(decode.init_state(config, 1))

    def act(obs: Float[np.ndarray, "obs"], first: bool) -> Float[np.ndarray, "29"]:
        nonlocal memory
        action, *memory = step(held, obs[None], np.array([first]), *memory)
        return np.asarray(action[0])

    return act


def _program(config: StudentConfig, weights: Weights, batch: Any) -> jax_export.Exported:
    """The step for `batch` rows (an int, or a symbol for any number of them)."""
    state = [
        jax.ShapeDtypeStruct((batch, *leaf.shape[1:]) if leaf.shape else (), leaf.dtype)
        for leaf in jax.tree.leaves(jax.eval_shape(lambda: decode.init_state(config, 1)))
    ]
    obs = jax.ShapeDtypeStruct((batch, config.obs_dim), jnp.float32)
    first = jax.ShapeDtypeStruct((batch,), jnp.bool_)
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    # A GPU may otherwise multiply float32 in TF32, whose ten bits are far outside the parity.
    with jax.default_matmul_precision("highest"):
        return jax_export.export(jax.jit(make_step(config)), platforms=PLATFORMS)(shapes, obs, first, *state)


def _named(weights: Weights, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): np.asarray(leaf) for name, leaf in weights.items() if name.startswith(prefix)}


def _publish(scratch: Path, out: Path) -> None:
    """Swap the finished folder in; an older policy goes only when the new one stands."""
    if not out.exists():
        os.replace(scratch, out)
        return
    old = out.with_name(f".{out.name}.old-{uuid.uuid4().hex[:8]}")
    os.replace(out, old)
    os.replace(scratch, out)
    shutil.rmtree(old, ignore_errors=True)


def _check_student(config: StudentConfig, params: Any, normaliser: Normaliser, action_scale: np.ndarray) -> None:
    wanted = observation_dim(STUDENT_TERMS)
    if config.obs_dim != wanted or config.action_dim != NUM_JOINTS:
        raise InputError(
            f"the student maps {config.obs_dim} observations to {config.action_dim} actions and the robot has "
            f"{wanted} and {NUM_JOINTS}; train it on the contract's terms"
        )
    expected = {
        "/".join(str(entry.key) for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(config))
    }
    found = {name: leaf.shape for name, leaf in flatten_params(params).items()}
    if found != expected:
        odd = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise InputError(f"the parameters are not those of the student's config: {', '.join(odd)} differ")
    arrays = {"mean": normaliser.mean, "std": normaliser.std, "action_scale": action_scale}
    for name, value in arrays.items():
        value, length = np.asarray(value), NUM_JOINTS if name == "action_scale" else wanted
        if value.shape != (length,) or not np.isfinite(value).all() or (name != "mean" and (value <= 0).any()):
            raise InputError(f"{name} of shape {value.shape} must be {length} finite values, positive where a scale")
    for name, leaf in flatten_params(params).items():
        if not np.isfinite(leaf).all():
            raise InputError(f"parameter {name} is not finite everywhere: choose a checkpoint before it diverged")
