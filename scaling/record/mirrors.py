"""Where a run's scalars are shown beside its record: TensorBoard files, Weights & Biases, MLflow.

Which of them is no part of a config, for what a run computes does not depend on who watches: SCALING_MIRRORS names them
(`tensorboard` where it is not set), and every process that a launcher starts inherits it. The services are set up by
their own variables: WANDB_MODE=offline, WANDB_PROJECT, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.
"""

import importlib
import io
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scaling.errors import InputError
from scaling.record.board import Board
from scaling.record.files import write_json

VARIABLE = "SCALING_MIRRORS"
DEFAULT = "tensorboard"
NAMES = "mirrors.json"
_PROJECT = "scaling"


class Mirror(Protocol):
    """Shows the scalars of one run; whatever it raises of `troubles` ends the mirror, never the run."""

    troubles: tuple[type[Exception], ...]

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """One step's scalars (finite numbers)."""

    def add_picture(self, step: int, tag: str, png: bytes) -> None:
        """One picture (the bytes of a PNG file)."""

    def close(self) -> None:
        """Sends what is buffered."""


class WandbMirror:
    """A run of Weights & Biases; the run's folder remembers its name, so that a restart goes on in the same one."""

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        import wandb

        self._wandb = wandb
        self.troubles: tuple[type[Exception], ...] = (OSError, wandb.Error)
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=_known(run, "wandb", lambda: uuid.uuid4().hex[:12]),
            name=_title(run),
            dir=str(run),
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        self._run.define_metric("*", step_metric="step")  # its own counter may not go back, as a resumed run does

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """One step's scalars."""
        self._run.log({"step": step, **scalars})

    def add_picture(self, step: int, tag: str, png: bytes) -> None:
        """One picture."""
        self._run.log({"step": step, tag: self._wandb.Image(_image(png))})

    def close(self) -> None:
        """Waits until everything is written."""
        self._run.finish()


class MlflowMirror:
    """A run of MLflow; the run's folder remembers its name, so that a restart goes on in the same one."""

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.troubles: tuple[type[Exception], ...] = (OSError, MlflowException)
        self._metric, self._client = Metric, MlflowClient()
        self._id = _known(run, "mlflow", lambda: self._create(run))
        self._client.update_run(self._id, status="RUNNING")

    def _create(self, run: Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(name)
        return str(self._client.create_run(experiment, run_name=_title(run)).info.run_id)

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """One step's scalars, in one call."""
        now = round(1000 * time.time())
        self._client.log_batch(
            self._id, metrics=[self._metric(name, value, now, step) for name, value in scalars.items()]
        )

    def add_picture(self, step: int, tag: str, png: bytes) -> None:
        """One picture."""
        self._client.log_image(self._id, _image(png), key=tag.replace("/", "-"), step=step)

    def close(self) -> None:
        """Marks it as ended; a restart opens it again."""
        self._client.set_terminated(self._id)


# name -> how it is opened, the module that it needs, the extra that brings this
_KINDS: Mapping[str, tuple[Callable[[Path, int | None], Mirror], str, str]] = {
    "tensorboard": (Board, "tensorboardX", "train"),
    "wandb": (WandbMirror, "wandb", "wandb"),
    "mlflow": (MlflowMirror, "mlflow", "mlflow"),
}


def choose(names: Sequence[str]) -> None:
    """Makes these the mirrors of this process and of all that it starts. InputError for one that cannot be had."""
    for name in names:
        _kind(name)
    os.environ[VARIABLE] = ",".join(names)


def openers() -> dict[str, Callable[[Path, int | None], Mirror]]:
    """The chosen mirrors by name; TensorBoard is left out where tensorboardX is absent and nobody asked for it.

    Raises InputError for a name that is none, and for a package that is not installed.
    """
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return {DEFAULT: _KINDS[DEFAULT][0]} if _installed(_KINDS[DEFAULT][1]) else {}
    return {name: _kind(name) for name in asked.split(",") if name}


def _kind(name: str) -> Callable[[Path, int | None], Mirror]:
    if name not in _KINDS:
        raise InputError(f"mirror {name!r}: one or more of {', '.join(_KINDS)}, with commas between")
    make, module, extra = _KINDS[name]
    if not _installed(module):
        raise InputError(f"mirror {name} needs {module}: install it with pip install 'scaling[{extra}]'")
    return make


def _installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _known(run: Path, kind: str, make: Callable[[], str]) -> str:
    """What a service calls this run; kept beside the record, which a later attempt takes over."""
    path = run / NAMES
    names = json.loads(path.read_text()) if path.exists() else {}
    if kind not in names:
        names[kind] = make()
        write_json(path, names)
    return str(names[kind])


def _title(run: Path) -> str:
    return "/".join(run.absolute().parts[-3:])


def _image(png: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(png))
