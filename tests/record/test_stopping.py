"""Whoever saves its state is asked to stop and given a while; everybody else is ended as before."""

import os
import signal
import time

import pytest

from scaling.cli import process
from scaling.record import stopping
from scaling.record.stopping import Stopped, ask, saving
from scaling.study import sweep_child


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    sum(range(1000))  # the handler runs before this returns


def test_nobody_saves_and_nobody_is_asked():
    assert not ask()
    with saving(keeps=False) as asked:
        assert not ask() and not asked()
    with saving() as asked:
        assert not asked()


def stopped(work, error=Stopped):
    """Runs `work(asked)` as what saves, under a verb's handler, and expects it to end so."""

    def block():
        with saving() as asked:
            work(asked)

    with process.watch("save") as received, pytest.raises(error):
        block()
    assert received.terminated


def test_a_signal_is_a_question_to_whoever_saves():
    saved = []

    def work(asked):
        terminate()
        assert asked()
        saved.append(True)
        raise Stopped

    stopped(work)
    assert saved
    with saving() as asked:  # the next one is asked by nobody
        assert not asked()


def test_a_block_that_has_ended_meanwhile_is_stopped_behind_its_end():
    ended = []

    def work(asked):
        terminate()
        ended.append(True)

    stopped(work)
    assert ended


def test_an_error_of_the_block_is_not_hidden():
    def work(asked):
        terminate()
        raise ZeroDivisionError

    stopped(work, ZeroDivisionError)


def test_who_takes_too_long_is_stopped_where_he_is(monkeypatch):
    monkeypatch.setattr(stopping, "PATIENCE_S", 0.1)

    def work(asked):
        terminate()
        time.sleep(30)
        raise AssertionError("nobody came")

    stopped(work)


def test_a_child_of_a_worker_asks_too_and_has_as_much_patience(monkeypatch):
    ended = []
    monkeypatch.setattr(stopping, "PATIENCE_S", 0.1)
    monkeypatch.setattr(os, "_exit", ended.append)

    def block():
        with saving() as asked:
            sweep_child._stop(signal.SIGTERM, None)
            assert asked() and not ended
            time.sleep(0.5)
            assert ended == [sweep_child.REQUEUE]

    with pytest.raises(Stopped):
        block()
    sweep_child._stop(signal.SIGTERM, None)
    assert len(ended) == 2
