"""Audit the locked packages for known vulnerabilities and write their bill of materials.

Exit status: 0 nothing is known against them, or only what no release fixes; 1 an advisory that a
release fixes; 2 the audit did not take place.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 2


def judge(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit status and lines for pip-audit's JSON report.

    pip-audit exits with 0 and says "No known vulnerabilities found" also where its service knows
    none of the packages (a mirror without advisories): it only lists them as skipped.
    """
    packages = report["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    skipped = [package for package in packages if "skip_reason" in package]
    if not audited:
        reason = skipped[0]["skip_reason"] if skipped else "the lock file is empty"
        return NOT_AUDITED, [f"not audited: none of {len(packages)} packages ({reason})"]
    lines = [f"audited: {len(audited)} of {len(packages)} packages"]
    lines += [f"  not audited: {package['skip_reason']}" for package in skipped]
    status = CLEAN
    for package in audited:
        for advisory in package["vulns"]:
            fixes = ", ".join(advisory["fix_versions"])
            remedy = f"fixed in {fixes}: make lock UPGRADE=--upgrade" if fixes else "not fixed yet"
            lines.append(f"  {advisory['id']}: {package['name']} {package['version']}, {remedy}")
            status = VULNERABLE if fixes else status
    return status, lines


def audit(tool: Path, lock: Path, limit_s: float) -> tuple[int, list[str]]:
    """Run pip-audit on a lock file; what keeps it from an answer is a reason, not an error."""
    command = [str(tool), "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=limit_s)
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return NOT_AUDITED, [f"not audited: no answer from the service within {limit_s:g} s"]
    except OSError as error:
        return NOT_AUDITED, [f"not audited: pip-audit does not start ({error})"]
    except json.JSONDecodeError:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return NOT_AUDITED, [f"not audited: pip-audit made no report ({reason})"]
    return judge(report)


def bill_of_materials(tool: Path, lock: Path, output: Path) -> None:
    """Write the locked packages as CycloneDX JSON; needs no network."""
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [str(tool), "requirements", str(lock), "--pyproject", "pyproject.toml"]
    command += ["--output-reproducible", "--output-file", str(output)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def main(arguments: list[str]) -> int:
    """Write the bill of materials, print the audit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("sbom", type=Path)
    parser.add_argument("--tools", type=Path, required=True, help="folder of the two programs")
    parser.add_argument("--limit-s", type=float, default=120.0)
    given = parser.parse_args(arguments)
    bill_of_materials(given.tools / "cyclonedx-py", given.lock, given.sbom)
    print(f"bill of materials: {given.sbom}")
    status, lines = audit(given.tools / "pip-audit", given.lock, given.limit_s)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
