"""The bank: the policies of all experts stacked, so that labelling is one batched product."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Bool, Float

from scaling.contract.normaliser import Normaliser
from scaling.contract.observation import EXPERT_TERMS, observation_dim
from scaling.errors import InputError
from scaling.tracking.evaluate import Policy

_ACTIVATION = jax.nn.swish


class Bank(NamedTuple):
    """Stacked actors: kernels and biases layer by layer, and each expert's normaliser."""

    kernels: tuple[Float[Array, "K i o"], ...]
    biases: tuple[Float[Array, "K o"], ...]
    normaliser: Normaliser

    @property
    def experts(self) -> int:
        """Number of experts K."""
        return int(self.biases[0].shape[0])


@dataclass(frozen=True)
class BankCard:
    """What the bank is: how it was trained and on what, and how good each expert turned out.

    `competence` has a row per assist and expert, `training` a row per expert: its iterations, environment steps and
    updates undone.
    """

    trainer: str
    physics: str
    assist: float
    clusters: int
    env_steps: int
    config: dict[str, Any]
    competence: list[dict[str, Any]]
    training: list[dict[str, Any]] = field(default_factory=list)


def act(bank: Bank, obs: Float[Array, "K E obs"]) -> Float[Array, "K E 29"]:
    """Each expert's mean action on its own row of environments."""
    x = Normaliser(bank.normaliser.mean[:, None], bank.normaliser.std[:, None])(obs)
    last = len(bank.kernels) - 1
    for index, (kernel, bias) in enumerate(zip(bank.kernels, bank.biases, strict=True)):
        x = jnp.einsum("kei,kio->keo", x, kernel) + bias[:, None]
        if index < last:
            x = _ACTIVATION(x)
    return x


BANK_POLICY = Policy(
    init=lambda batch: (),
    act=lambda one, state, obs, first: (act(jax.tree.map(lambda x: x[None], one), obs[None])[0], state),
)
"""A single expert (one row of a bank, unstacked) as a policy."""


def competent(card: BankCard) -> Bool[np.ndarray, "K"]:
    """Which experts reach the target of survival without the harness."""
    reached = {row["cluster"]: row["competent"] for row in card.competence if row["assist"] == 0}
    return np.array([reached[k] for k in range(card.clusters)])


def alone(name: str) -> ocp.StandardCheckpointer:
    """A checkpointer that waits for no other process of a run; `name` is what it writes or reads."""
    me = jax.process_index()
    mine = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{name}-{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=mine)


def save_bank(path: Path, bank: Bank, card: BankCard) -> None:
    """Parameters (Orbax) and card (JSON) below `path`; in a run of several processes only one has to call it."""
    with alone("bank") as checkpointer:
        tree = jax.tree.map(np.asarray, bank._asdict() | {"normaliser": bank.normaliser._asdict()})
        checkpointer.save(path.absolute() / "params", tree, force=True)
    (path / "card.json").write_text(json.dumps(asdict(card), indent=1))


def load_card(path: Path) -> BankCard:
    """The card of the bank saved at `path`, without its parameters; InputError where there is none."""
    try:
        text = (path / "card.json").read_text()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no expert bank here (card.json is missing); name a folder that a bank was saved to"
        ) from None
    return BankCard(**json.loads(text))


def load_bank(path: Path) -> tuple[Bank, BankCard]:
    """The bank saved by `save_bank`.

    Raises InputError where there is none, or one whose observations are not this version's.
    """
    card = load_card(path)
    with alone("bank") as checkpointer:
        tree = checkpointer.restore(path.absolute() / "params")
    tree = jax.tree.map(np.asarray, tree)
    bank = Bank(
        tuple(jnp.asarray(x) for x in tree["kernels"]),
        tuple(jnp.asarray(x) for x in tree["biases"]),
        Normaliser(jnp.asarray(tree["normaliser"]["mean"]), jnp.asarray(tree["normaliser"]["std"])),
    )
    width = bank.kernels[0].shape[1]
    if width != observation_dim(EXPERT_TERMS):
        raise InputError(
            f"{path}: its experts read {width} observations and this version gives {observation_dim(EXPERT_TERMS)}; "
            "train the bank again"
        )
    return bank, card
