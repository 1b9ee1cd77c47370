"""The lock file holds what pyproject.toml asks for, and the audit says what it looked at."""

import importlib.metadata
import itertools
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

LOCK = ROOT / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED_FOR = [*PROJECT["dependencies"], *EXTRAS["notebook"]]
# their numbers name a driver and a month, not what changes
NUMBERED_OTHERWISE = {"nvidia-ml-py", "xllamacpp"}


def entries() -> list[str]:
    """The entries of the lock file, each on one line, without comments."""
    text = LOCK.read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def locked() -> list[Requirement]:
    """The pins of the lock file, without their hashes."""
    return [Requirement(re.split(r"\s+--hash=", entry)[0].strip()) for entry in entries()]


def environment(python: str, platform: str) -> dict[str, str]:
    """What markers see on another Python and system."""
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform]
    return {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": system,
        "os_name": "nt" if platform == "win32" else "posix",
    }


def applies(requirement: Requirement, where: dict[str, str], extra: str = "") -> bool:
    """Whether a requirement is one there."""
    return requirement.marker is None or requirement.marker.evaluate({**where, "extra": extra})


@pytest.mark.parametrize(
    ("python", "platform"),
    itertools.product(["3.11", "3.12", "3.13"], ["linux", "darwin", "win32"]),
)
def test_the_lock_satisfies_pyproject_on_every_python_and_system(python, platform):
    """Each requirement has exactly one version there, and it is within its bounds."""
    where = environment(python, platform)
    pins = [pin for pin in locked() if applies(pin, where)]
    versions = {canonicalize_name(pin.name): pin.specifier for pin in pins}

    assert len(versions) == len(pins)
    for requirement in map(Requirement, LOCKED_FOR):
        pinned = str(versions[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(pinned.removeprefix("==")), (requirement, pinned)


def test_the_lock_is_closed():
    """What a locked package asks for is locked too, as far as its metadata is installed here."""
    where = environment(f"{sys.version_info.major}.{sys.version_info.minor}", sys.platform)
    pins = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in locked()
        if applies(pin, where)
    }
    looked_at = 0
    for name, version in pins.items():
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if package.version != version:
            continue
        looked_at += 1
        for requirement in map(Requirement, package.requires or []):
            if applies(requirement, where):
                pinned = pins.get(canonicalize_name(requirement.name))
                assert pinned is not None, f"{name} asks for {requirement}"
                assert requirement.specifier.contains(pinned, prereleases=True)
    assert looked_at > 0


def test_every_pin_is_exact_and_hashed_and_names_no_place():
    """Neither an index nor an address nor a folder of whoever made the file."""
    pin = r"[\w.-]+==[\w.+!]+( ; [^-/]+)?(\s+--hash=sha256:[0-9a-f]{64})+"

    assert [entry for entry in entries() if not re.fullmatch(pin, entry)] == []
    assert "/" not in LOCK.read_text(encoding="utf-8")


def test_a_major_version_is_asked_for_before_it_comes():
    """Every requirement has an upper bound, but for those whose numbers announce nothing."""
    groups = [PROJECT["dependencies"], *EXTRAS.values()]
    unbounded = set()
    for requirement in map(Requirement, itertools.chain(*groups)):
        bounded = any(one.operator in {"<", "<=", "==", "~="} for one in requirement.specifier)
        if not bounded and requirement.name != PROJECT["name"]:
            unbounded.add(requirement.name)

    assert unbounded == NUMBERED_OTHERWISE


ADVISORY = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
CASES = {
    "clean": ({"vulns": []}, 0, "audited: 1 of 1"),
    "a release fixes it": ({"vulns": [ADVISORY]}, 1, "PYSEC-1: left 1.0, fixed in 2.0"),
    "no release fixes it": ({"vulns": [ADVISORY | {"fix_versions": []}]}, 0, "not fixed yet"),
    "unknown to the service": ({"skip_reason": "not found"}, 2, "none of 1 packages (not found)"),
}


def audit(folder: Path, script: str, *options: str) -> tuple[int, str]:
    """Run the audit with other programs in the place of pip-audit and cyclonedx-py."""
    for name, text in (("pip-audit", script), ("cyclonedx-py", "pass")):
        (folder / name).write_text(f"#!{sys.executable}\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    command = [sys.executable, ROOT / ".ci" / "audit.py", LOCK, folder / "sbom.json"]
    done = subprocess.run(
        [*command, "--tools", folder, *options],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", CASES)
def test_the_audit_counts_what_was_looked_at(name):
    """A service that knows none of the packages is no clean bill of health."""
    package, status, words = CASES[name]
    judge = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["judge"]

    found, lines = judge({"dependencies": [{"name": "left", "version": "1.0"} | package]})

    assert found == status
    assert words in "\n".join(lines)


def test_an_audit_without_a_network_is_none(tmp_path):
    """A program that ends without a report, and one that never ends, do not fail the gate."""
    gone = "import sys; sys.exit('ConnectionError: no route')"
    hangs = "import signal; signal.pause()"

    assert audit(tmp_path, gone) == (
        2,
        f"bill of materials: {tmp_path}/sbom.json\n"
        "not audited: pip-audit made no report (ConnectionError: no route)\n",
    )
    status, output = audit(tmp_path, hangs, "--limit-s", "0.2")
    assert status == 2
    assert "no answer from the service within 0.2 s" in output


def test_an_advisory_with_a_fix_fails_the_gate(tmp_path):
    """The exit status is the one that the gate asks for."""
    report = {"dependencies": [{"name": "left", "version": "1.0", "vulns": [ADVISORY]}]}

    status, output = audit(tmp_path, f"print('''{json.dumps(report)}''')\nraise SystemExit(1)")

    assert status == 1
    assert "PYSEC-1: left 1.0, fixed in 2.0: make lock UPGRADE=--upgrade" in output
