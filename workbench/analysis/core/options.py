"""Options that several analyses share."""

from workbench.analysis.core.declaration import METRIC, Option
from workbench.analysis.core.entry_columns import SETTINGS
from workbench.schema import TRACE_FACTS

MEASURES: tuple[str, ...] = tuple(
    c.name
    for c in TRACE_FACTS.columns
    if c.unit in {"USD", "s", "J", "tokens"} or c.name in {"n_turns", "n_calls", "n_tool_calls"}
    if c.name not in {"value_usd", "human_cost_usd", *SETTINGS}
)


LEVEL = Option("level", "float", 0.95, "nominal coverage of the intervals", low=0.5, high=0.999)
RESAMPLES = Option(
    "resamples", "int", 2000, "bootstrap resamples of the items", low=100, high=100_000
)
ERRORS = Option(
    "errors_as_wrong", "flag", default=False, help="count failed traces as wrong, not as missing"
)
OUTCOME = Option(
    "outcome",
    "choice",
    "passed",
    "what is averaged: right or wrong, the score, or a scorer's metric",
    choices=("passed", "score", METRIC),
)
SHARED = Option(
    "shared", "flag", default=False, help="only the items that every group was tried on"
)
BOOTSTRAP = Option(
    "interval", "choice", "percentile", "kind of bootstrap interval", choices=("percentile", "bca")
)


def cost_axis(name: str, default: str, help: str) -> Option:
    """Make an option whose value is a measure of `trace_facts`, a metric, or a numeric setting."""
    return Option(name, "measure", default, help, choices=MEASURES)
