"""The house rules of the design: no import climbs a floor, no file outgrows its room, no catch-all module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "scaling"
MOST_LINES = 500

FLOORS = {
    **dict.fromkeys(("robot", "laws", "record"), 0),
    **dict.fromkeys(("contract", "motion"), 1),
    **dict.fromkeys(("tracking", "students"), 2),
    "dynamics": 3,
    "experts": 4,
    **dict.fromkeys(("distill", "policy"), 5),
    **dict.fromkeys(("bridge", "study", "view"), 6),
    **dict.fromkeys(("bench", "cli", "__main__"), 7),
}
# The ground under every floor: the version, the user's error, and how the process keeps its memory.
GROUND = {"__init__", "errors", "memory"}
# Rooms that may use less than the floors below them. The bridge runs on the base install, so it sees no training code.
ONLY = {"robot": set(), "laws": set(), "record": set(), "bridge": {"policy", "contract", "motion", "robot", "record"}}
# Rooms on one floor do not know each other, but a study writes its report.
SAME_FLOOR = {("study", "view"), ("__main__", "cli"), ("cli", "bench")}


def room_of(module: str) -> str:
    """The room of a dotted module name below `scaling`."""
    return [*module.split("."), "__init__"][1]


def imports(file: Path, code: str) -> list[tuple[int, str]]:
    """Line and dotted name of everything from `scaling` that `file` (a path in the checkout) imports, at any depth."""
    package = file.with_suffix("").parts[:-1]
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(code, str(file))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            # `from scaling import motion` imports a room; `from scaling.motion import x` has named it already.
            found += [(node.lineno, f"{base}.{alias.name}" if base == "scaling" else base) for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "scaling" and name != "scaling.__version__"]


def climbs(file: Path, code: str) -> list[str]:
    """The imports of a file that the plan of the house does not allow, in words."""
    own = room_of(".".join(file.with_suffix("").parts))
    wrong = []
    for line, name in imports(file, code):
        other = room_of(name)
        if other == own or other in GROUND:
            continue
        allowed = own in FLOORS and other in FLOORS
        if allowed and own in ONLY:
            allowed = other in ONLY[own]
        elif allowed:
            allowed = FLOORS[other] < FLOORS[own] or (own, other) in SAME_FLOOR
        if not allowed:
            wrong.append(f"{file}:{line}: {own} may not import {name}")
    return wrong


def sources() -> list[Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def test_no_import_climbs_a_floor() -> None:
    wrong = [line for path in sources() for line in climbs(path.relative_to(ROOT), path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_plan_and_in_the_readme() -> None:
    rooms = {room_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in sources()} - GROUND
    assert rooms <= set(FLOORS), f"not in the design's table of rooms: {sorted(rooms - set(FLOORS))}"
    readme = (ROOT / "README.md").read_text()
    missing = [room for room in FLOORS if f"`{room}" not in readme and room != "__main__"]
    assert not missing, f"not in the README's table of rooms: {missing}"


def test_no_file_outgrows_its_room() -> None:
    folders = [
        ROOT / name for name in ("scaling", "tests", "experiments", "sweeps", "notebooks") if (ROOT / name).exists()
    ]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): lines for path in files if (lines := path.read_text().count("\n")) > MOST_LINES
    }
    assert not long, f"over {MOST_LINES} lines: {long}"


def test_no_catch_all_module() -> None:
    names = {"utils", "util", "helpers", "misc", "common"}
    found = [str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.name.removesuffix(".py") in names]
    assert not found, f"name it for what it holds: {found}"


def test_no_address_of_a_registry_is_committed() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock


@pytest.mark.parametrize(
    ("file", "code", "caught"),
    [
        ("motion/read.py", "from scaling.study import plan", True),
        ("motion/read.py", "def f():\n    import scaling.tracking.env", True),
        ("motion/read.py", "from scaling import experts", True),
        ("motion/read.py", "from ..cli import main", True),
        ("motion/read.py", "from scaling.contract import terms", True),
        ("motion/read.py", "from .clip import Motion", False),
        ("motion/read.py", "from scaling.robot.g1 import NQ", False),
        (
            "motion/read.py",
            "from scaling.errors import InputError\nfrom scaling import __version__\nimport numpy",
            False,
        ),
        ("record/store.py", "from scaling.robot import g1", True),
        ("bridge/run.py", "from scaling.distill import dagger", True),
        ("bridge/run.py", "from scaling.tracking import metrics", True),
        ("bridge/run.py", "from scaling.policy import load", False),
        ("view/html.py", "from scaling.study import stages", True),
        ("study/stages.py", "from scaling.view import report", False),
        ("study/stages.py", "from scaling.bridge import run", True),
        ("__main__.py", "from scaling.cli import main", False),
        ("attic/old.py", "from scaling.robot import g1", True),
    ],
)
def test_the_check_itself_catches_climbing(file: str, code: str, caught: bool) -> None:
    assert bool(climbs(Path("scaling") / file, code)) is caught
