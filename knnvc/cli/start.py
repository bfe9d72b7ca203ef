"""The first thing that runs: a signal ends the command with one sentence at any time.

Only the standard library is imported before the handlers are in place; everything else, which takes
a second, is imported after. Before that, Python itself starts and answers a signal in its own way.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # as typing has it, which takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

INTERRUPTED = "interrupted; nothing half-written was left behind"
_AGAIN_SECONDS = 2.0


class Stopped(KeyboardInterrupt):
    """A signal asks to end; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main() -> None:
    """Entry point of the `knnvc` command."""
    # Set before torch is imported. Threads that have to wait give their processor away: on a busy
    # computer they would spin while the thread that they wait for has none (docs/speed.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    def run() -> None:
        from knnvc.cli.main import main as command

        command()

    guarded(run)


def guarded(run: Callable[[], object]) -> None:
    """Run a command that a signal ends with one sentence; what it starts is ended, too."""
    try:
        handle_signals()
        run()
    except KeyboardInterrupt as error:
        leave(error)
    except Exception:
        # An import that a signal interrupted may fail for another reason when it is tried again.
        if not _asked:
            raise
        leave(Stopped(_asked))
    finally:
        # What follows is the interpreter's end: a signal there shall end it without a traceback.
        _disarm()
        for number in _numbers():
            signal.signal(number, signal.SIG_DFL)


def leave(error: BaseException) -> NoReturn:
    """Say that the command was interrupted, and exit."""
    _disarm()
    sys.stderr.write(f"Error: {INTERRUPTED}\n")
    sys.exit(exit_code(error))


def exit_code(error: BaseException | None) -> int:
    """128 and the number of the signal that `error` comes from; 130, Ctrl-C, if it is not known."""
    while error is not None:
        if isinstance(error, Stopped):
            return 128 + error.number
        error = error.__cause__ or error.__context__
    return 128 + int(signal.SIGINT)


def handle_signals() -> None:
    """From now on SIGINT and SIGTERM raise `Stopped`, again and again until it arrives."""
    for number in _numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:  # of a job in the background, nohup
            signal.signal(number, _stop)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _stop_again)
    sys.unraisablehook = _without_stops(sys.unraisablehook)


def _numbers() -> tuple[signal.Signals, ...]:
    return (signal.SIGINT, signal.SIGTERM)


_asked = 0  # the number of the signal that came


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    global _asked
    _asked = number
    _arm()
    raise Stopped(number)


def _stop_again(_number: int, _frame: FrameType | None) -> None:
    """The exception may have got lost in a callback whose exceptions Python ignores."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt | GeneratorExit):
        error = error.__context__
    _arm()
    if error is None:  # nobody is cleaning up because of it
        raise Stopped(_asked)


def _arm() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _disarm() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _without_stops(others: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def hook(problem: Any) -> None:
        if not issubclass(problem.exc_type, Stopped):
            others(problem)

    return hook
