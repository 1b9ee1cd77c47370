"""Coefficients of runtimes on uniform hardware, and the law that they belong to.

T(p, o) = T_prompt(p) + max(o − 1, 0) · t_out + overhead: the first output token is inside T_prompt.
T_prompt is a table at some lengths: the least one that holds the prompt, in proportion; beyond the
longest, the longest in proportion (Narayanan et al. 2023, arXiv 2305.02440).
"""

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

import narwhals as nw


@functools.cache
def deployments() -> dict[str, dict[str, Any]]:
    """Read the released coefficients: by deployment, then `idealized` or `denoised`."""
    file = importlib.resources.files("workbench.analysis.inputs") / "coefficients" / "runtimes.json"
    coefficients: dict[str, dict[str, Any]] = json.loads(file.read_text())["deployments"]
    return coefficients


def find(model: str) -> str | None:
    """Name the deployment of a model, by its whole name or the part after the slash."""
    known = {name.lower(): name for name in deployments()}
    bare: dict[str, list[str]] = {}
    for name in deployments():
        bare.setdefault(name.split("/")[-1].lower(), []).append(name)
    wanted = model.lower()
    alone = bare.get(wanted, [])
    return known.get(wanted) or (alone[0] if len(alone) == 1 else None)


def law(coefficients: Mapping[str, Any], prompt: nw.Expr, output: nw.Expr) -> nw.Expr:
    """Write T(p, o) in seconds as an expression; unknown where p or o is."""
    grid = sorted((int(k), float(v)) for k, v in coefficients["prompt_s"].items())
    longest, seconds = grid[-1]
    in_prompt = prompt * (seconds / longest)
    for length, seconds in reversed(grid[:-1]):
        in_prompt = nw.when(prompt <= length).then(prompt * (seconds / length)).otherwise(in_prompt)
    later = nw.when(output > 1).then(output - 1).otherwise(output * 0.0)
    fixed = coefficients.get("overhead_s", 0.0)
    seconds_in_all: nw.Expr = in_prompt + later * coefficients["per_output_token_s"] + fixed
    return seconds_in_all
