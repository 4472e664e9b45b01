"""A policy artifact opened without training code: verified, then one action per control step."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float

from scaling.contract.manifest import Manifest, check_contract, check_files, read_manifest
from scaling.errors import InputError
from scaling.policy.archive import opened

PROGRAM = "policy.stablehlo"
BATCH_PROGRAM = "policy_batch.stablehlo"
ONNX_PROGRAM = "policy.onnx"
BACKENDS = ("xla", "onnx")
# Largest difference of an action where an accelerator runs it (see `check.TOLERANCE` for how it is measured).
ON_TARGET = 1e-4


class Backend(Protocol):
    """Runs one step; the state stays with it until `reset`."""

    def reset(self) -> None:
        """Forget everything."""
        ...

    def step(self, obs: Float[np.ndarray, "B obs"], first: Bool[np.ndarray, "B"]) -> Float[np.ndarray, "B 29"]:
        """Contract actions for raw float32 observations."""
        ...


class LoadedPolicy:
    """A verified policy for `batch` robots at once, with its memory of the episode."""

    def __init__(
        self, folder: Path, manifest: Manifest, manifest_hash: str, backend: Backend, name: str, batch: int
    ) -> None:
        self.folder, self.manifest, self.backend, self.batch = folder, manifest, name, batch
        self.manifest_hash = manifest_hash
        """Of the manifest's bytes, which hold the hashes of all other files."""
        self._run = backend
        self.obs_dim = sum(term.dim for term in manifest.terms)
        self._fresh = True

    def reset(self) -> None:
        """The next observation opens an episode."""
        self._run.reset()
        self._fresh = True

    def act(
        self, obs: Float[np.ndarray, "*b obs"], first: Bool[np.ndarray, "*b"] | bool = False
    ) -> Float[np.ndarray, "*b 29"]:
        """Contract action for one raw observation ([obs], or [batch, obs]); `first` where an episode begins.

        Raises ValueError for an observation of another length, which a broadcast would otherwise hide.
        """
        obs = np.asarray(obs, np.float32)
        if obs.shape not in ((self.batch, self.obs_dim), (self.obs_dim,)) or (obs.ndim == 1 and self.batch != 1):
            raise ValueError(f"observation of shape {obs.shape}: the policy reads {(self.batch, self.obs_dim)}")
        flags = np.broadcast_to(np.asarray(first, bool), (self.batch,)) | self._fresh
        action = self._run.step(obs.reshape(self.batch, self.obs_dim), flags)
        self._fresh = False
        return action.reshape(*obs.shape[:-1], -1)


def load_policy(
    folder: Path | str, *, batch: int = 1, backend: str = "auto", providers: Sequence[str] = ("cpu",)
) -> LoadedPolicy:
    """Verify and open a policy (its folder, or the zip of it).

    `backend` is "xla" (jax.export), "onnx", or "auto": XLA where JAX is installed. `providers` are ONNX
    Runtime's execution providers in order of preference ("tensorrt", "cuda", "cpu"); on any but the CPU the reference
    vectors are played first, and have to come out.
    Raises InputError that names what is wrong: a file whose bytes differ, another robot, other terms, rates or gains.
    """
    path = Path(folder)
    with opened(path) as folder:
        program, manifest, backend = _open(folder, batch, backend, tuple(providers))
        manifest_hash = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        policy = LoadedPolicy(path, manifest, manifest_hash, program, backend, batch)
        # The first call compiles, and the first with a state of the program's own making once more; on a robot neither
        # may happen under a deadline.
        for _ in range(3):
            policy.act(np.zeros((batch, policy.obs_dim), np.float32))
        policy.reset()
        if tuple(providers) != ("cpu",) and batch == 1:
            _prove(policy, folder, tuple(providers))
    return policy


def _prove(policy: LoadedPolicy, folder: Path, providers: tuple[str, ...]) -> None:
    """Raises InputError where the program on an accelerator is not what was exported: versions have differed."""
    from scaling.policy.check import parity

    for case, off in parity(policy, folder).items():
        if not (off.limited < ON_TARGET and off.relative < ON_TARGET):
            raise InputError(
                f"{folder}: by {', '.join(providers)} the actions on {case} inputs differ by {off.raw:.3g} from those "
                "that were exported: run it with another provider, or another version of that one"
            )


def _open(folder: Path, batch: int, backend: str, providers: tuple[str, ...]) -> tuple[Backend, Manifest, str]:
    """The verified program of a folder, its manifest and the name of its backend."""
    manifest = read_manifest(folder)
    check_contract(manifest, folder / "manifest.json")
    check_files(manifest, folder)
    if backend == "auto":
        backend = "xla" if _has_jax() else "onnx"
    if backend != "onnx" and providers != ("cpu",):
        raise InputError(f"execution providers are ONNX Runtime's and the policy runs on {backend!r}: add backend onnx")
    if backend not in BACKENDS:
        raise InputError(f"policy backend is {backend!r}; use one of {', '.join(BACKENDS)}")
    if backend == "onnx" and ONNX_PROGRAM not in manifest.files:
        raise InputError(f"{folder} has no {ONNX_PROGRAM}: its student is not float32, so run it with the XLA backend")
    weights = _weights(folder, manifest)
    program: Backend
    if backend == "xla":
        from scaling.policy.xla import XlaBackend

        name = PROGRAM if batch == 1 else BATCH_PROGRAM
        program = XlaBackend((folder / name).read_bytes(), weights, manifest, batch)
    else:
        from scaling.policy.onnx_run import OnnxBackend

        program = OnnxBackend(folder / ONNX_PROGRAM, manifest, batch, providers)
    return program, manifest, backend


def initial_state(manifest: Manifest, batch: int) -> list[np.ndarray]:
    """The state's leaves before an episode: zeros, for `first` makes the program forget whatever they hold."""
    return [np.zeros([batch if n < 0 else n for n in leaf.shape], np.dtype(leaf.dtype)) for leaf in manifest.state]


def _weights(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for prefix, name in (("params", "params.npz"), ("normaliser", manifest.normaliser)):
        if name not in manifest.files:
            raise InputError(f"{folder}: the manifest gives no hash for {name}; export the policy again")
        with np.load(folder / name) as data:
            weights |= {f"{prefix}/{key}": data[key] for key in data.files}
    count = sum(leaf.size for name, leaf in weights.items() if name.startswith("params/"))
    if count != manifest.parameters:
        raise InputError(f"{folder}: {count} parameters and the manifest says {manifest.parameters}; export it again")
    return weights


def _has_jax() -> bool:
    from importlib.util import find_spec

    return find_spec("jax") is not None
