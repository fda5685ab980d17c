"""A process is told apart from a later one that has the same id."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

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


#: Started as ``python -c``: prints whether the process whose identity it gets exists.
ASK = (
    "import json, sys\n"
    "from harness.environment.process import ProcessIdentity\n"
    "print(ProcessIdentity.from_json(json.loads(sys.argv[1])).exists())"
)


def seen_by(*prefix: str, identity: ProcessIdentity) -> str:
    """Return what a process that is started by this command says of the identity."""
    command = [*prefix, sys.executable, "-P", "-c", ASK, json.dumps(vars(identity))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("only the superuser can make a namespace of processes")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("proc", [["--mount-proc"], []], ids=["its own proc", "the proc of the host"])
def test_in_another_container_of_the_same_host_the_heartbeat_decides(proc: list[str]) -> None:
    """The id of a living process means another process there, or none."""
    container = ["unshare", "--pid", "--fork", *proc]
    assert seen_by(*container, identity=ProcessIdentity.current()) == "True"
    gone = dataclasses.replace(ProcessIdentity.current(), pid=2**22 - 7, pid_started="1")
    assert seen_by(*container, identity=gone) == "True"
    assert seen_by(identity=gone) == "False"


def test_a_process_that_is_hidden_from_other_users_may_exist() -> None:
    """Clusters mount /proc in this way; needs the superuser."""
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -o remount,hidepid=2 /proc && exec "$@"', "sh"]
    other_user = [*hidden, "setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    assert seen_by(*other_user, identity=ProcessIdentity.current()) == "True"
    gone = dataclasses.replace(ProcessIdentity.current(), pid=2**22 - 7, pid_started="1")
    assert seen_by(*other_user, identity=gone) == "False"


def test_an_identity_of_before_has_no_namespace_and_is_looked_up_here() -> None:
    written = {key: value for key, value in vars(ProcessIdentity.current()).items() if key != "pid_namespace"}
    assert ProcessIdentity.from_json(written).exists()
    assert not ProcessIdentity.from_json({**written, "pid_started": "0"}).exists()


@pytest.mark.parametrize("pid", [None, "12", 2**70, -1, 0])
def test_an_id_that_is_none_is_no_reason_to_stop(pid: object) -> None:
    identity = ProcessIdentity.from_json({**vars(ProcessIdentity.current()), "pid": pid, "pid_started": "1"})
    assert identity.exists() in (True, False)
