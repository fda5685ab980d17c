"""Processes that answer in lines of JSON: ``python -m harness.X`` prints them, and reads its requests as such lines.

The server's side is ``answers`` and ``serve``; the client's side is ``command``, ``send``, ``call`` and
``exit_reason``. A process may be killed at any time, and its client, too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, Any, NoReturn

from harness.errors import UserError

#: How the exit reason of a process begins that a signal has ended; the signal's name follows.
KILLED = "killed by "
#: After how many milliseconds without a line it is checked whether the process has ended.
CHECKED_EVERY = 500


class ProcessFailed(Exception):
    """A process ended with an error; the message says how."""


@contextmanager
def answers() -> Iterator[Callable[[Any], None]]:
    """Yield a function that writes one answer to standard output.

    Everything else that the process or its libraries print goes to standard error meanwhile. An answer is written at
    once, so that the lines of several processes with one output do not mix.
    """
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)

    def answer(content: Any) -> None:
        line = f"{json.dumps(content)}\n".encode()
        while line:
            line = line[os.write(output, line) :]

    try:
        yield answer
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)


def serve(handle: Callable[[Any], Iterable[Any]]) -> NoReturn:
    """Answer each line of standard input with what ``handle`` yields for it; end when the input or the client does.

    Requests and answers are the server's alone: for all other code standard input is empty, and standard output is
    standard error, until the very end. The process ends at once: threads and exit handlers of other code may never end.
    """
    _keep_files_from_children()
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    with open(os.devnull, "rb") as empty:
        os.dup2(empty.fileno(), 0)
    code = 1
    try:
        _answer_all(requests, handle)
        code = 0
    except SystemExit:
        code = 0
    except UserError as error:
        print(f"{error.where}: {error.what}" if error.where else error.what, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001  (it is printed, and the client reads its last line)
        traceback.print_exc()
        if "\n" in (message := str(error).strip()):
            print(f"{type(error).__name__}: {message.splitlines()[0]}", file=sys.stderr)
    finally:
        os.dup2(2, 1)
        end_at_once(code)


def end_at_once(code: int) -> NoReturn:
    """End the process without its threads and exit handlers, which may never end where they are a user's.

    The workers of a user's ``multiprocessing.Pool`` end with it: nothing else would end them.
    """
    with suppress(Exception):
        for child in multiprocessing.active_children():
            child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _keep_files_from_children() -> None:
    """Let no program that is started here inherit open files, such as the locks of cores, which it might outlive."""
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # a container without /proc
        descriptors = list(range(min(os.sysconf("SC_OPEN_MAX"), 4096)))
    for descriptor in descriptors:
        if descriptor > 2:
            with suppress(OSError):  # it is not open, as that of the listing itself
                os.set_inheritable(descriptor, False)


def _answer_all(requests: IO[str], handle: Callable[[Any], Iterable[Any]]) -> None:
    with answers() as answer:
        for line in requests:
            for content in handle(json.loads(line)):
                try:
                    answer(content)
                except BrokenPipeError:  # the client has ended; what it requested is done all the same
                    return


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module in this environment.

    ``-P``: Python must not search the user's current folder for modules, where a file may have the name of one.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def send(process: Popen[str], request: Any) -> None:
    """Send one request; a process that has just died does not get it, and its end says so."""
    assert process.stdin
    with suppress(BrokenPipeError):
        process.stdin.write(f"{json.dumps(request)}\n")
        process.stdin.flush()


def lines(process: Popen[str]) -> Iterator[str]:
    """Yield the lines of a process as they come, until it has ended.

    The end of its output is not waited for: processes that it has forked hold that open, and may never end.
    """
    assert process.stdout
    unfinished, output = b"", process.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    content = b"-"
    while content:
        ended = process.poll() is not None
        if poll.poll(0 if ended else CHECKED_EVERY):
            content = os.read(output, 1 << 16)
            *finished, unfinished = (unfinished + content).split(b"\n")  # a kill may tear the last line
            yield from (line.decode() for line in finished)
        elif ended:
            return


def call(
    module: str,
    *arguments: str,
    request: Any = None,
    errors: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """Run a module, send it one request, and yield its answers as they come.

    Args:
        errors: a file, open for reading and appending, that its standard error is added to.
        environment: variables that differ from this process's own.

    Raises:
        ProcessFailed: the process ended with an error; its answers until then have been yielded.
    """
    with tempfile.TemporaryFile() as own_errors:
        log = errors or own_errors
        begin = log.seek(0, os.SEEK_END)
        process = Popen(
            command(module, *arguments),
            env={**os.environ, **(environment or {})},
            stdin=DEVNULL if request is None else PIPE,
            stdout=PIPE,
            stderr=log,
            text=True,
        )
        with process:
            if process.stdin:
                send(process, request)
                with suppress(BrokenPipeError):
                    process.stdin.close()
            for line in lines(process):
                yield json.loads(line)
        if process.returncode:
            log.seek(begin)
            raise ProcessFailed(exit_reason(process.returncode, log.read()) + memory_hint(process.returncode))


def exit_reason(code: int, errors: bytes) -> str:
    """Return why a process ended: the signal that ended it, or the last line on its standard error."""
    if code < 0:
        return f"{KILLED}{signal.Signals(-code).name}"
    lines = errors.decode(errors="replace").strip().splitlines() if code else []
    return lines[-1] if lines else f"the process ended by itself with exit code {code}"


def memory_hint(code: int) -> str:
    """Return what a SIGKILL most often means; the empty string for other exit codes."""
    return ", as the kernel does when memory is short" if code == -signal.SIGKILL else ""
