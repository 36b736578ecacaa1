"""Run a command: exceptions become exit codes, signals end it without leaving half a file."""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from skmode_deploy.bundle import BundleError
from skmode_deploy.cli.arguments import PROGRAM, make_parser
from skmode_deploy.errors import InferenceError
from skmode_deploy.running.tables.errors import InputError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Examples
    --------
    >>> from skmode_deploy.cli import main
    >>> main(["verify", "no-such-folder"])
    1
    """
    args = make_parser().parse_args(argv)
    try:
        with _terminable():
            args.run(args)
            if sys.stdout is not None:
                sys.stdout.flush()
    except BundleError as error:
        return _fail(1, error)
    except InputError as error:
        return _fail(3, error)
    except BrokenPipeError:
        _drop_output()
        return 141
    except (UsageError, ImportError, OSError) as error:
        _drop_output()
        return _fail(2, error)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except MemoryError:
        return _fail(70, "out of memory: pass smaller --chunk-rows, or fewer --rows")
    except InferenceError as error:
        return _fail(70, error)
    except Exception:
        return _fail(70, f"this is a defect, please report it:\n{traceback.format_exc()}")
    return 0


def _fail(code: int, message: object) -> int:
    if sys.stderr is not None:  # print(file=None) would write to stdout
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Discard what stdout still holds: Python would flush it again at exit, and fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError):  # it is closed
        pass


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn signals into exceptions, so that no half-written file is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Signals that are ignored, as under nohup, stay ignored.
    before = {i: signal.getsignal(i) for i in numbers if signal.getsignal(i) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
