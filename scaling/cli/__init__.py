"""The command `scaling`: one thin function a verb, one sentence for every mistake, exit codes that scripts can use."""

import argparse
import signal
import sys
from collections.abc import Sequence

from scaling.cli import output, process
from scaling.cli.parser import build_parser
from scaling.errors import InputError

DONE, CHECK_FAILED, BAD_INPUT, REQUEUE, INTERRUPTED = 0, 1, 2, 75, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 a check failed, 2 bad input, 75 stopped with its state saved."""
    process.prepare()
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = build_parser().parse_args(given)
    except SystemExit as leaving:  # argparse's way out of --help and of usage errors
        return leaving.code if isinstance(leaving.code, int) else DONE
    arguments.given = given
    return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """The verb of parsed arguments, its outcome written out, and every way in which it may end as an exit code."""
    with process.quiet(), process.watch(arguments.on_signal) as received:
        try:
            with output.diverted():
                outcome = arguments.verb(arguments)
            output.emit(outcome, getattr(arguments, "json", None))
            if outcome.complaint is not None:
                _tell(outcome.complaint)
            return outcome.code
        except InputError as error:
            return _tell(str(error))
        except KeyboardInterrupt:
            return _stopped(arguments, received)
        except process.Stopped:  # another process of this program may have had the signal
            received.signal = received.signal or signal.SIGTERM
            return _stopped(arguments, received)
        except Exception as error:
            # A signal that arrives inside a callback of XLA comes back as XLA's own error.
            if received.signal is not None:
                return _stopped(arguments, received)
            sentence = process.told(error)
            if sentence is None:
                raise
            return _tell(sentence)


def _tell(sentence: str) -> int:
    print(f"scaling: {' '.join(sentence.split())}", file=sys.stderr)
    return BAD_INPUT


def _stopped(arguments: argparse.Namespace, received: process.Received) -> int:
    received.answered = True
    if received.terminated and arguments.on_signal == "save":
        print("scaling: stopped by SIGTERM with its state saved; run the same command to go on", file=sys.stderr)
        return REQUEUE
    resumable = "; run the same command to go on" if arguments.on_signal == "save" else ""
    print(f"scaling: interrupted{resumable}", file=sys.stderr)
    return INTERRUPTED
