"""Mapping files in TOML, which assign the columns of a table to the fields of the store.

```toml
title = "…"                      # one line for `workbench import`
kind = "traces"                  # traces (a row is one attempt) | results (aggregates) | prices
rows = "runs[].samples[]"        # path to the rows: name, name[0]; name[] for each element of a
                                 # list, {name} for each key of an object; "" is the root
tokens = ["input excludes cached", "output excludes thinking"]   # conventions of the file; the
                                 # tokens are added back. A row's total_tokens takes precedence.
                                 # Row by row: { column = "provider", map = { anthropic = ["…"] } }
delimiter = ";"                  # of CSV; default: detected in the first line: , ; | or tab
decimal = ","                    # decimal mark of numbers in text; default: detected for each
                                 # column, or for the whole file
keep = "last"                    # of rows with the same item and trial; default: "first"
unpivot = "{system}_points"      # a wide table: each column that fits is a row of its own, and
                                 # @system its name; or { system = ["ours", "theirs"] }

[match]                          # how to recognise a file; all conditions given must be true
files = ["{run}_*.json"]         # globs over the file's name; {run} is the value of @run
keys = ["model_name"]            # fields beside the rows
columns = ["index", "cost"]      # columns of the first row

[where]                          # rows to import; all conditions must be true
split = "test"                   # equal
language = ["de", "en"]          # one of
status = { not = ["skipped", "@null"] }   # none of; "@null" is an unknown cell
steps = { min = 1, max = 50 }    # within bounds

[join.questions]                 # a second file; its columns are questions.NAME
file = "questions.jsonl"         # beside the first one; may contain names in braces
on = { index = "id" }            # column of the first file = column of this one; or on = "index"

[constants]                      # the same for every row
strategy = "direct"

[columns]                        # field of the store = "column of the file", or a table
item = "index"
model = "^model_name"            # ^ : a field beside the rows;  a.b, a[0] : inside a nested
                                 # object, a list, or a text that is JSON
task = "@stem"                   # @stem, @name, @folder : of the file; @row : number of the row;
                                 # @value : the row, if it is no object; @NAME : of {NAME}
trial = "@repeat"                # number of earlier rows with the same item
target = "questions.answer"      # column of a joined file
input = { join = ["system", "question"], separator = " " }   # unknown if a part is
answer = { column = ["final", "choices[-1].text"] }   # the first that is known
effort = { column = "effort", optional = true, default = "none" }
e2e_s = { column = "latency_ms", unit = "ms" }
score = { column = "{system}_points", unit = "percent" }   # a score is 0..1; other values are
                                 # refused
difficulty = { column = "^level", offset = 1 }
billed_cost_usd = { column = "cost", null_if = [0], decimal = ",", optional = true }
energy_j = { column = "joules", plus = ["idle"] }   # further columns to add; unknown cells add
                                 # nothing
started_at = { column = "day", format = "%d/%m/%Y" }   # for times that are neither ISO 8601 nor
                                 # numbers since 1970; unit = "ms" for numbers of any size
ended_at = "end"                 # e2e_s is the time from started_at, if it is not given
passed = { column = "verdict", map = { ok = true, bad = false, late = "@null", "@null" = false } }
                                 # "@null" is unknown on the right, an empty cell on the left
request_id = "message.id"        # of an item's rows with the same id, the last one is imported
response_id = "generation_id"    # the provider's id of the reply, to match the lines of a bill
n_turns = "steps"                # number of requests that the row sums up (or
                                 # n_requests = "…")
trace = "session_id"             # rows with the same value are the calls of one trace; the id is
                                 # that of the trace, so that a file that has grown adds the rest

[tool_calls]                     # rows with a tool are tool calls of their trace, not calls
tool = "tool_name"
arguments = "args"               # also result, started_at, e2e_s, result_tokens, cost_usd,
error_type = "error"             # error_message. With rows = "message.tool_calls[]" they are
                                 # within a row, and paths begin there

[scores]                         # further scores 0..1, each by the name of its scorer
f1 = { column = "f1", unit = "percent" }

[metrics]                        # metrics with scales other than 0..1: rows of the table scores
rubric = { column = "judge", range = [0, 10], direction = "higher" }
loss = { column = "nll", unit = "nats", direction = "lower" }

[strategy_params]                # and [settings], [metadata], [item_metadata]: name = column as
shots = "n_shots"                # above; stored as JSON, with the column's type

[totals]                         # stated total = field of the store to add up (or average)
cost = { column = "^cost", of = "billed_cost_usd", how = "sum", tolerance = 0.005 }

[results]                        # kind = "results": metric = column as above, also range and
                                 # direction
[prices]                         # kind = "prices": field of the prices table = column as above
```
"""

import functools
import tomllib
from pathlib import Path

from workbench.errors import ImportFormatError
from workbench.sources.tables.columns import Mapping
from workbench.sources.tables.mapping_parser import parse
from workbench.toml_reader import toml

SHIPPED = Path(__file__).parent / "mappings"


def page() -> str:
    """Return the page that explains the language, in Markdown: examples, then every key."""
    text = (Path(__file__).parent / "mapping.md").read_text(encoding="utf-8")
    every_key = (__doc__ or "").partition("\n\n")[2].strip()
    return f"{text}\n{every_key}\n\nShipped mappings: {', '.join(shipped())}.\n"


def shipped() -> dict[str, Path]:
    """Return the paths of the package's mappings, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def load(name: str | Path) -> Mapping:
    """Read a mapping from a file, or one of the package by its name.

    Raises:
        ImportFormatError: there is no such mapping, or it is wrong; the message names the place.
    """
    path = shipped().get(str(name), Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(shipped())
        raise ImportFormatError(
            f"no mapping {str(name)!r}: {error}; give a .toml file or one of {known}"
        ) from error
    try:
        raw = toml(text)
    except tomllib.TOMLDecodeError as error:
        raise ImportFormatError(f"mapping {path.name} is not TOML: {error}") from error
    return parse(path.name, raw, is_shipped=path.parent == SHIPPED)


@functools.cache
def load_shipped() -> tuple[Mapping, ...]:
    """Return all mappings of the package."""
    return tuple(load(path) for path in shipped().values())
