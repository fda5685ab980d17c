"""A process is told apart from a later one that has the same id."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

from harness.environment.process import TICKS, TOLERANCE_SECONDS, ProcessIdentity


def identity_of(pid: int) -> ProcessIdentity:
    from harness.environment.process import _process_started

    return dataclasses.replace(ProcessIdentity.current(), pid=pid, pid_started=_process_started(pid))


def test_a_process_exists_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identity_of(process.pid)
        assert identity.exists()
        process.kill()
        process.poll()  # not waited for: a zombie does not count as a process
        while process.returncode is None:
            process.poll()
    assert not identity.exists()


def test_another_process_with_the_same_id_is_another_process() -> None:
    current = ProcessIdentity.current()
    assert current.exists()
    started = int(current.pid_started or 0)
    for seconds, exists in ((0, True), (TOLERANCE_SECONDS + 1, False), (-TOLERANCE_SECONDS - 1, False)):
        moved = dataclasses.replace(current, pid_started=str(started + seconds * TICKS))
        assert moved.exists() is exists


def test_a_start_is_written_as_linux_counts_it() -> None:
    current = ProcessIdentity.current()
    with open(f"/proc/{current.pid}/stat", encoding="utf-8") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    assert abs(int(current.pid_started or 0) - ticks) <= TICKS


def test_a_process_on_another_machine_is_assumed_to_exist() -> None:
    elsewhere = dataclasses.replace(ProcessIdentity.current(), host="another", pid_started="never")
    assert elsewhere.exists()
