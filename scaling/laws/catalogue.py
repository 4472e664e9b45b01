"""The forms by name: which columns each reads and how many distinct levels it needs."""

from collections.abc import Callable, Sequence

from scaling.errors import InputError
from scaling.laws.broken import Broken
from scaling.laws.distillation import Distillation
from scaling.laws.forms import Constant, Form, LogLinear, PowerTerms
from scaling.laws.observations import BUDGETS
from scaling.laws.repeated import Repeated
from scaling.laws.tied import Overtraining, Straight

NAMES = (
    "constant", "log", "power", "straight", "broken", "chinchilla", "overtraining", "repeated", "clusters",
    "distillation",
)  # fmt: skip


def power(variable: str = "data") -> PowerTerms:
    """Power law with floor in one variable."""
    units = ("loss", "loss x unit^alpha", "1")
    return PowerTerms("power", "E + A x^-alpha", (variable,), ("E", "A", "alpha"), units, (variable,), (4,), cells=4)


def chinchilla() -> PowerTerms:
    """Hoffmann et al. 2022, approach 3: two own parameters an axis, so three levels an axis and six cells."""
    names = ("E", "A", "B", "alpha", "beta")
    units = ("loss", "loss x size^alpha", "loss x data^beta", "1", "1")
    both = ("size", "data")
    return PowerTerms("chinchilla", "E + A N^-alpha + B D^-beta", both, names, units, both, (3, 3), cells=6)


def clusters(base: Sequence[str] = ("size", "data")) -> PowerTerms:
    """A law in `base` with a term in the number of clusters K; `without_clusters` is nested in it."""
    letters = {"size": "N", "data": "D", "compute": "X"}
    amplitudes, exponents = ("A", "B")[: len(base)], ("alpha", "beta")[: len(base)]
    terms = [f"{a} {letters[b]}^-{e}" for a, b, e in zip(amplitudes, base, exponents, strict=True)]
    units = ["loss", *(f"loss x {b}^{e}" for b, e in zip(base, exponents, strict=True)), "loss x clusters^gamma"]
    return PowerTerms(
        "clusters",
        " + ".join(["E", *terms, "C K^-gamma"]),
        (*base, "clusters"),
        ("E", *amplitudes, "C", *exponents, "gamma"),
        (*units, *("1" for _ in range(len(base) + 1))),
        tuple(base),
        (*((3,) * len(base) if len(base) > 1 else (4,)), 3),
        cells=2 * len(base) + 4,
    )


def without_clusters(form: Form) -> Form:
    """The same law without its term in K."""
    return chinchilla() if len(form.variables) == 3 else power(form.variables[0])


def make(name: str, variables: Sequence[str] | str = ("data",)) -> Form:
    """The form called `name`; `variables` are the columns of the forms that leave a choice."""
    given = (variables,) if isinstance(variables, str) else tuple(variables)
    first = next((v for v in given if v in BUDGETS), "data")
    if name == "clusters":
        return clusters([v for v in given if v in BUDGETS])
    if name == "distillation":
        return Distillation("alone" in given)
    fixed: dict[str, Callable[[], Form]] = {
        "constant": Constant,
        "chinchilla": chinchilla,
        "overtraining": Overtraining,
        "repeated": Repeated,
    }
    if name in fixed:
        return fixed[name]()
    of_one: dict[str, Callable[[str], Form]] = {
        "log": LogLinear,
        "power": power,
        "straight": Straight,
        "broken": Broken,
    }
    if name in of_one:
        return of_one[name](first)
    raise InputError(f"unknown form '{name}': use one of auto, {', '.join(NAMES)}")
