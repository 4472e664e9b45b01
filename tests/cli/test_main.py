"""The command itself: it starts at once, ends with the right code, and says one sentence where something is wrong."""

import argparse
import contextlib
import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

import scaling
from scaling.cli import main, run
from scaling.cli.output import Grid, Outcome
from scaling.cli.parser import build_parser
from scaling.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], env=environment, text=True, timeout=120, **options)


def arguments(verb, on_signal="plain", json="-"):
    return argparse.Namespace(verb=verb, on_signal=on_signal, json=json)


def test_help_imports_nothing_heavy():
    code = """
import sys
from scaling.cli import main
assert main(["--help"]) == 0 and main(["motions", "import", "--help"]) == 0
heavy = {"jax", "numpy", "mujoco", "scipy", "rich", "matplotlib", "brax", "orbax"} & set(sys.modules)
assert not heavy, heavy
"""
    done = python("-c", code, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout


def test_the_cache_of_compiled_programs_is_set_before_jax_is_there():
    code = """
import os, sys
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ["XDG_CACHE_HOME"] = "/somewhere"
from scaling.cli import process
process.prepare()
assert "jax" not in sys.modules
assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/somewhere/scaling/jax"
os.environ["JAX_COMPILATION_CACHE_DIR"] = "/mine"
process.prepare()
assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"
"""
    assert python("-c", code).returncode == 0


VERBS = {
    "": ["quickstart", "run", "eval", "fit", "predict", "export", "view", "bench"],
    "robot": ["check"],
    "motions": ["inspect", "import", "cluster"],
    "sweep": ["plan", "work", "status", "retry", "invalidate", "gc", "table", "diff", "suggest"],
    "policy": ["check", "bench"],
    "bridge": ["run", "simulate", "status", "replay"],
}


def test_every_verb_of_the_surface_exists(capsys):
    for family, verbs in VERBS.items():
        for verb in verbs:
            assert main([*family.split(), verb, "--help"]) == 0, (family, verb)
    capsys.readouterr()


def test_version(call):
    assert call("--version") == (0, f"scaling {scaling.__version__}\n", "")


@pytest.mark.parametrize("given", [[], ["quickstrat"], ["motions"], ["fit", "table.csv"], ["bench", "kitchen"]])
def test_usage_errors_are_one_line_and_exit_2(call, given):
    called = call(*given)
    assert called.code == 2
    assert called.out == ""
    assert len(called.err.splitlines()) == 1
    assert called.err.startswith("scaling")


def test_json_is_alone_on_standard_output(capsys, tmp_path):
    def verb(_):
        print("chatter of some library")
        print("Failed to import warp: No module named 'warp'")
        return Outcome({"value": float("nan"), "list": (1, 2)}, ["words"])

    assert run(arguments(verb)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"value": None, "list": [1, 2]}
    assert err == "chatter of some library\n"
    assert run(arguments(verb, json=str(tmp_path / "deep" / "out.json"))) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "deep" / "out.json").read_text()) == {"value": None, "list": [1, 2]}


def test_words_are_for_a_person(capsys):
    grid = Grid(("file", "share"), [("a very long name " * 20 + "[end]", 0.123456), ("b", None)], "title")
    assert run(arguments(lambda _: Outcome({}, ["a sentence", grid], code=1), json=None)) == 1
    out = capsys.readouterr().out
    assert "a sentence" in out
    assert "[end]  0.1235" in out, "a name is neither folded nor read as markup"


def raising(error):
    def verb(_):
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("a sentence\nover two lines"), "a sentence over two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "the disk is full at /x/y"),
        (RuntimeError("tensorstore: No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y cannot be written"),
        (ModuleNotFoundError("No module named 'grain'", name="grain"), "'grain'"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(capsys, error, told):
    assert run(arguments(raising(error))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert told in err


@pytest.mark.parametrize("bug", [KeyError("x"), ModuleNotFoundError("scaling.nosuch", name="scaling.nosuch")])
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(type(bug)):
        run(arguments(raising(bug)))


def test_a_folder_that_is_a_file_is_told(call, tmp_path):
    (tmp_path / "taken").write_text("")
    called = call("robot", "check", "--json", tmp_path / "taken" / "out.json")
    assert called.code == 2
    assert "in the way" in called.err


def killing(number, wrapped=False):
    def verb(_):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except BaseException as error:
            if wrapped:  # as XLA does with what a callback raises
                raise RuntimeError("INTERNAL: CpuCallback error") from error
            raise
        return Outcome({})

    return verb


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("number", "mode", "code"),
    [
        (signal.SIGTERM, "save", 75),
        (signal.SIGINT, "save", 130),
        (signal.SIGINT, "plain", 130),
        (signal.SIGTERM, "damp", 130),
    ],
)
def test_signals(capsys, number, mode, code, wrapped):
    before = signal.getsignal(number)
    assert run(arguments(killing(number, wrapped), mode)) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("mode", "code"), [("save", 75), ("damp", 130)])
def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost(capsys, mode, code):
    """Python drops what is raised there, and JAX registers such a callback."""
    killed = []

    def callback(phase, info):
        if not killed:
            killed.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))  # the handler runs before this returns

    def verb(_):
        gc.callbacks.append(callback)
        try:
            gc.collect()
            time.sleep(5)
        finally:
            gc.callbacks.remove(callback)
        return Outcome({})

    assert run(arguments(verb, mode)) == code
    assert killed
    assert len(capsys.readouterr().err.splitlines()) == 1


class Doomed:
    """A key whose weak reference is cleaned up the moment it goes."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return True


def test_a_signal_in_a_callback_of_a_weak_reference_is_not_lost(capsys):
    """What a weak dictionary does when a key dies runs where Python drops what is raised."""
    killed = []

    class Watched(dict):
        def __delitem__(self, key):
            super().__delitem__(key)
            killed.append(os.kill(os.getpid(), signal.SIGTERM))
            sum(range(1000))  # the handler runs before this returns

    def verb(_):
        table = weakref.WeakKeyDictionary()
        table.data = Watched()
        key = Doomed()
        table[key] = 1
        del key
        time.sleep(5)
        return Outcome({})

    assert run(arguments(verb, "save")) == 75
    assert killed
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_stop_that_somebody_swallows_is_said_again_but_not_into_the_clean_up(capsys):
    cleaned = []

    def verb(_):
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        try:
            time.sleep(10)
        finally:
            time.sleep(1.5)  # saving takes longer than a reminder
            cleaned.append(True)
        return Outcome({})

    began = time.monotonic()
    assert run(arguments(verb, "save")) == 75
    assert cleaned
    assert time.monotonic() - began < 8
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_interrupts_the_damping(capsys):
    def verb(_):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return Outcome({"state": "damping"})

    assert run(arguments(verb, "damp")) == 0
    assert json.loads(capsys.readouterr().out) == {"state": "damping"}


@pytest.mark.parametrize(
    ("given", "mode"), [(["quickstart"], "save"), (["run", "x"], "save"), (["robot", "check"], "plain")]
)
def test_who_saves_its_state(given, mode):
    assert build_parser().parse_args(given).on_signal == mode


def test_a_reader_that_has_seen_enough_is_no_error():
    writer = subprocess.Popen(
        [sys.executable, "-m", "scaling", "robot", "check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer.stdout.close()
    assert writer.wait(timeout=60) == 0
    assert writer.stderr.read() == b""
    writer.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_told():
    with open("/dev/full", "w") as full:
        done = python("-m", "scaling", "robot", "check", "--json", "-", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "disk is full" in done.stderr
