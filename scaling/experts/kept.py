"""A bank small enough for a repository: parameters in float16, its card, and the segments that its experts are of.

The motions stay outside: of each segment its name, split and mean pose are kept, by which a corpus is known again.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS
from scaling.errors import InputError
from scaling.experts.bank import Bank, BankCard
from scaling.motion.corpus import Corpus
from scaling.record.files import write_json
from scaling.record.hashing import content_hash

_SCHEMA = 1
_ARRAYS, _META = "bank.npz", "bank.json"
_ALIKE = 1e-3  # of a mean pose (m, rad): machines differ in the last digits of generated motion


@dataclass(frozen=True)
class Kept:
    """A kept bank: the experts, how good they are, the expert and the split of each segment, and how it was made.

    `config` holds what the corpus was built by, `command` what trained the bank.
    """

    bank: Bank
    card: BankCard
    labels: Int[np.ndarray, "S"]
    names: tuple[str, ...]
    splits: tuple[str, ...]
    means: Float[np.ndarray, "S 36"]
    config: dict[str, Any]
    command: str

    @property
    def content_hash(self) -> str:
        """16 hex digits over experts and labels."""
        leaves = [np.asarray(x) for x in (*self.bank.kernels, *self.bank.biases, *self.bank.normaliser)]
        return content_hash({"leaves": leaves, "labels": self.labels, "names": list(self.names)})


def halved(bank: Bank) -> Bank:
    """The bank with its layers rounded to what float16 can hold: what is kept, and therefore what is scored."""
    rounded = [tuple(jnp.asarray(x, jnp.float16).astype(jnp.float32) for x in layers) for layers in bank[:2]]
    return Bank(rounded[0], rounded[1], bank.normaliser)


def mean_poses(corpus: Corpus) -> Float[np.ndarray, "S 36"]:
    """The mean `qpos` of each segment."""
    spans = zip(corpus.start, corpus.length, strict=True)
    return np.stack([corpus.qpos[start : start + length].mean(axis=0) for start, length in spans]).astype(np.float32)


def save_kept(
    folder: Path,
    bank: Bank,
    card: BankCard,
    labels: Int[np.ndarray, "S"],
    corpus: Corpus,
    config: dict[str, Any],
    command: str,
) -> None:
    """Writes `bank.npz` and, last, `bank.json` below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = {f"kernel_{i}": np.asarray(x, np.float16) for i, x in enumerate(bank.kernels)}
    layers |= {f"bias_{i}": np.asarray(x, np.float16) for i, x in enumerate(bank.biases)}
    mean, std = (np.asarray(x, np.float32) for x in bank.normaliser)
    arrays: dict[str, Any] = {"labels": labels, "mean": mean, "std": std, "means": mean_poses(corpus), **layers}
    np.savez_compressed(folder / _ARRAYS, **arrays)
    meta = {
        "schema": _SCHEMA,
        "terms": EXPERT_TERMS,
        "layers": len(bank.kernels),
        "names": corpus.names,
        "splits": corpus.splits,
        "corpus_hash": corpus.content_hash,
        "config": config,
        "command": command,
        "card": asdict(card),
    }
    write_json(folder / _META, meta)


def load_kept(folder: Path) -> Kept:
    """The bank kept in a folder.

    Raises InputError where there is none, where it is damaged, or where its observations are not this version's.
    """
    if not (folder / _META).is_file() or not (folder / _ARRAYS).is_file():
        raise InputError(f"{folder}: no kept bank here ({_META} and {_ARRAYS}); name one of experiments/banks")
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        with np.load(folder / _ARRAYS) as file:
            arrays = {name: file[name] for name in file.files}
        schema, terms, count = meta["schema"], tuple(meta["terms"]), meta["layers"]
        kernels, biases = (
            tuple(jnp.asarray(arrays[f"{kind}_{i}"], jnp.float32) for i in range(count)) for kind in ("kernel", "bias")
        )
        bank = Bank(kernels, biases, Normaliser(jnp.asarray(arrays["mean"]), jnp.asarray(arrays["std"])))
        kept = Kept(
            bank, BankCard(**meta["card"]), arrays["labels"], tuple(meta["names"]), tuple(meta["splits"]),
            arrays["means"], meta["config"], meta["command"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise InputError(f"{folder}: the kept bank cannot be read ({error}); fetch it again") from None
    if schema != _SCHEMA or terms != EXPERT_TERMS:
        raise InputError(f"{folder}: its observations are not those of this version; train the bank again")
    return kept


def check_kept(folder: Path, kept: Kept, corpus: Corpus) -> None:
    """Raises InputError for a bank of other motions than these."""
    same = tuple(corpus.names) == kept.names
    if not same or not np.allclose(mean_poses(corpus), kept.means, atol=_ALIKE):
        raise InputError(
            f"{folder}: this bank is of other motions than these; it was trained by `{kept.command}`, so give the same "
            "motions, or train anew without --bank"
        )


def split_as_kept(folder: Path, kept: Kept, corpus: Corpus) -> Corpus:
    """The corpus with the splits that the bank was trained with: what nobody saw then, nobody has seen now.

    Raises InputError for a bank of other motions than these.
    """
    check_kept(folder, kept, corpus)
    return replace(corpus, splits=kept.splits)
