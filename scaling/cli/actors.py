"""RUN_OR_POLICY on a command line: a policy folder, a saved student, or a bank of experts, ready to be played."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import InputError
from scaling.policy.archive import is_archive
from scaling.tracking.evaluate import Policy

# What a folder is, by the file that was written last into it.
_CARDS = {"manifest.json": "policy", "student.json": "student", "card.json": "bank"}
# Records that name such a folder: a quickstart's, and that of a single run.
_RECORDS = {"summary.json": "policy", "row.json": "folder"}


@dataclass(frozen=True)
class Actor:
    """Something that acts: `policy` and `params` for `tracking.evaluate`, and how many frames it looks back over."""

    kind: str
    folder: Path
    title: str
    policy: Policy
    params: Any
    window: int
    row: dict[str, Any]


def find(path: Path) -> tuple[str, Path]:
    """Kind ("policy", "student", "bank") and folder of a PATH; a record of a run or of a quickstart leads to its own.

    Raises InputError where there is none of them, naming those that lie below.
    """
    if is_archive(path):
        return "policy", path
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: name the folder of a policy (or its zip), a student or a bank")
    for folder in (path, path / "policy"):
        for card, kind in _CARDS.items():
            if (folder / card).is_file():
                return kind, folder
    for record, key in _RECORDS.items():
        if (path / record).is_file():
            return _recorded(path / record, key)
    below = sorted({str(file.parent) for card in _CARDS for file in path.rglob(card)})
    raise InputError(
        f"{path} holds no policy, student or bank of its own: "
        + (f"name one of the {len(below)} below it, such as {below[0]}" if below else "name a folder that does")
    )


def _recorded(record: Path, key: str) -> tuple[str, Path]:
    try:
        folder = Path(json.loads(record.read_text())[key])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{record} names no {key}: run again what wrote it") from None
    for card, kind in _CARDS.items():
        if (folder / card).is_file():
            return kind, folder
    raise InputError(f"{folder}, which {record} names, is gone: run again what wrote it, from the same folder")


def open_actor(path: Path, expert: int | None = None) -> Actor:
    """The actor in a folder; `expert` says which of a bank plays."""
    kind, folder = find(path)
    if expert is not None and kind != "bank":
        raise InputError(f"{folder} is a {kind} and has no experts: leave --expert out")
    return {"policy": _policy, "student": _student, "bank": _expert}[kind](folder, expert)


def _policy(folder: Path, _: int | None) -> Actor:
    """The exported program itself, its batch left open."""
    import jax
    import jax.numpy as jnp
    from jax import export

    from scaling.contract.manifest import check_contract, read_manifest
    from scaling.policy.archive import opened
    from scaling.policy.export import read_student
    from scaling.policy.load import BATCH_PROGRAM, initial_state

    with opened(folder) as unpacked:
        manifest = read_manifest(unpacked)
        check_contract(manifest, unpacked / "manifest.json")
        config, weights = read_student(unpacked)
        stored = (unpacked / BATCH_PROGRAM).read_bytes()
    try:
        program = export.deserialize(bytearray(stored))
    except Exception as error:  # whatever flatbuffers or MLIR raise on a program of another age
        raise InputError(
            f"{folder}: its program does not open in jax {jax.__version__} ({type(error).__name__}); make it anew with "
            f"scaling export {folder} --out DIR"
        ) from error
    seen = sum(term.dim for term in manifest.terms)

    def act(params: Any, state: Any, obs: Any, first: Any) -> tuple[Any, Any]:
        action, *state = program.call(params, obs[..., :seen], first, *state)
        return action, tuple(state)

    policy = Policy(init=lambda batch: tuple(jnp.asarray(x) for x in initial_state(manifest, batch)), act=act)
    return Actor("policy", folder, folder.name, policy, jax.device_put(weights), config.window, dict(manifest.row))


def _student(folder: Path, _: int | None) -> Actor:
    from scaling.distill.student import load_student, policy, policy_params

    student = load_student(folder)
    title = f"{student.config.family} {folder.name}"
    params = policy_params(student)
    return Actor("student", folder, title, policy(student.config), params, student.config.window, student.columns)


def _expert(folder: Path, expert: int | None) -> Actor:
    import jax

    from scaling.experts.bank import load_bank
    from scaling.experts.competence import BANK_POLICY

    bank, card = load_bank(folder)
    if expert is None and bank.experts == 1:
        expert = 0
    if expert is None or not 0 <= expert < bank.experts:
        raise InputError(
            f"{folder} is a bank of {bank.experts} experts: say who plays with --expert 0 to {bank.experts - 1}"
        )
    params = jax.tree.map(lambda x: x[expert], bank)
    row = {"trainer": card.trainer, "assist": card.assist, "clusters": card.clusters, "expert": expert}
    return Actor("bank", folder, f"expert {expert} of {bank.experts}", BANK_POLICY, params, 1, row)
