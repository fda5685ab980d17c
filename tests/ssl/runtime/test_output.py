"""What a process prints goes to files, whoever prints it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRINTS = """
import os, sys
from pathlib import Path
from harness.ssl.runtime.output import redirected_output

with redirected_output(Path(sys.argv[1]), Path(sys.argv[2])):
    os.system("echo from a child")
    print(1)
    print("an error", file=sys.stderr)
print(2)
"""


def test_output_goes_to_files_from_libraries_too_and_back_again(tmp_path: Path) -> None:
    files = [tmp_path / "stdout.log", tmp_path / "stderr.log"]
    files[0].write_text("before\n")
    command = [sys.executable, "-P", "-c", PRINTS, *map(str, files)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert files[0].read_text().splitlines() == ["before", "from a child", "1"]
    assert "an error" in files[1].read_text()
    assert printed.stdout == "2\n"
