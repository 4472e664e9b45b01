"""What is made once for the same values, told apart by kind too: 1, 1.0 and True are equal, and have other hashes."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_SCALARS = (str, int, float, bool, type(None))


class Once(Generic[_T]):
    """What `make` made of some values; configs among them are told apart by identity, so that none is compared."""

    def __init__(self, most: int = 1 << 14) -> None:
        self._most = most
        self._held: dict[Any, tuple[Sequence[Any], _T]] = {}

    def get(self, values: Sequence[Any], make: Callable[[], _T]) -> _T:
        """What was made of these very values before, or what `make` makes now."""
        key = tuple(map(_same, values))
        found = self._held.get(key)
        if found is None:
            if len(self._held) >= self._most:
                self._held.clear()
            found = self._held[key] = values, make()  # with the values, or something else would get their id
        return found[1]


def _same(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        return tuple(map(_same, value))
    return (kind, value) if kind in _SCALARS else id(value)
