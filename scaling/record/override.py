"""One figure of a frozen config replaced by its dotted path, checked anew."""

import dataclasses
import difflib
from typing import Any

from scaling.errors import InputError


def override(config: Any, path: str, value: Any) -> Any:
    """The config with one figure replaced, by dotted path (`dagger.updates`); text becomes what the figure was.

    A tuple takes several values, in text separated by commas. Where figures hang together, the config has a method
    `overridden(name, value)`, which answers with the whole new config, or with None for a figure that stands alone.

    Raises InputError, with the nearest names, for a path that leads nowhere, and for a value that the config refuses.
    """
    return _at(config, path, value, path)


def _at(config: Any, path: str, value: Any, whole: str) -> Any:
    """As above, for what is left of the `whole` path."""
    head, _, rest = path.partition(".")
    known = [one.name for one in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    if head not in known:
        near = difflib.get_close_matches(head, known, n=3, cutoff=0.3) or known
        raise InputError(f"{whole}: there is no {head!r} here; did you mean {' or '.join(near) or 'nothing'}?")
    current = getattr(config, head)
    new = _at(current, rest, value, whole) if rest else _like(current, value, whole)
    try:
        together = None if rest or not hasattr(config, "overridden") else config.overridden(head, new)
        return dataclasses.replace(config, **{head: new}) if together is None else together
    except (ValueError, TypeError) as error:
        raise InputError(f"{whole}={value}: {error}") from None


def _like(current: Any, value: Any, path: str) -> Any:
    """`value` (perhaps text) as the type of the figure that it replaces."""
    try:
        if isinstance(current, tuple):
            items = [item for item in value.split(",") if item] if isinstance(value, str) else value
            return tuple(_like(current[0], item, path) if current else item for item in items)
        if isinstance(current, bool):
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(current, int | float) and not isinstance(value, type(current)):
            made = type(current)(value)
            if made != float(value):
                raise ValueError(value)  # a part of a step
            return made
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}={value}: {value!r} is not of the kind of {current!r}") from None
    return value
