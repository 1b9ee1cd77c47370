"""Disks of a few megabytes, mounted in a namespace of the test's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

needs_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a user namespace to mount a small disk in",
)


def on_small_disk(code: str, disk: Path, *args: str, size: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with a small disk mounted at a folder, which is its first argument."""
    disk.mkdir(exist_ok=True)
    shell = 'mount -t tmpfs -o mode=700,size="$0" small "$1" && exec "$2" -c "$3" "$1" "${@:4}"'
    return subprocess.run(
        ["unshare", "-rm", "bash", "-c", shell, size, str(disk), sys.executable, code, *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
