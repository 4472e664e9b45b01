"""The families of students: what each gives for all that is done with a student of any kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scaling.students import gru, mlp, tcn, transformer
from scaling.students.config import Family, StudentConfig
from scaling.students.network import Network

State = mlp.MlpState | transformer.TransformerState | tcn.TcnState | gru.GruState


@dataclass(frozen=True)
class Kind:
    """Network, empty memory of a batch, parameters by group and multiply-adds of a frame (both without heads)."""

    network: type[Network]
    init_state: Callable[[StudentConfig, int], Any]
    parameters: Callable[[StudentConfig], dict[str, int]]
    products: Callable[[StudentConfig, int | None], int]


KINDS: dict[Family, Kind] = {
    "mlp": Kind(mlp.Mlp, mlp.init_state, mlp.parameters, mlp.products),
    "transformer": Kind(transformer.Transformer, transformer.init_state, transformer.parameters, transformer.products),
    "tcn": Kind(tcn.Tcn, tcn.init_state, tcn.parameters, tcn.products),
    "gru": Kind(gru.Gru, gru.init_state, gru.parameters, gru.products),
}
