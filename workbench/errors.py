"""Errors of the package, as one tree; the CLI maps the base to exit status 1.

WorkbenchError
├── ConfigError            a setting, option or environment value is wrong
├── SliceError             a filter does not parse; knows the column of the fault
├── StoreError             the database
│   ├── StoreMissing       there is no store at the path
│   ├── StoreLocked        another process kept the file for longer than we waited
│   ├── StoreUnwritable    the disk refuses what is to be written
│   ├── StoreVersionError  written by a newer version, or not one of ours
│   ├── QueryError         a statement that the engine refuses
│   └── QueryCancelled     a query that its asker stopped
├── ImportFormatError      a foreign file is broken or of no known format
├── TaskError              a task set or its scorer
├── AnalysisError          an analysis cannot answer: unknown name, option, missing column
├── ProviderError          a model could not be asked
│   ├── ProviderRejected   the request itself is wrong; asking again will not help
│   └── ProviderUnavailable  worth asking again
├── LimitReached           an attempt may not go on: a budget, a cap on turns
└── MissingExtra           an optional dependency is not installed

A message says what failed, the value, where, and what to do; it never holds a secret.
"""


class WorkbenchError(Exception):
    """Base of every error that a user can meet."""


class ConfigError(WorkbenchError):
    """A setting, option or environment value is wrong."""


class SliceError(WorkbenchError):
    """A filter does not parse.

    Attributes:
        text: the filter as typed.
        column: 0-based offset of the fault in `text`.
        hint: what to type instead, or "".
    """

    def __init__(self, reason: str, text: str, column: int, hint: str = "") -> None:
        """Build the message with a caret under the fault."""
        self.reason, self.text, self.column, self.hint = reason, text, column, hint
        tail = f"\n{hint}" if hint else ""
        super().__init__(f"{reason}, at column {column + 1}\n  {text}\n  {' ' * column}^{tail}")


class StoreError(WorkbenchError):
    """The store could not be read or written."""


class StoreMissing(StoreError):
    """There is no store at the path."""


class StoreLocked(StoreError):
    """Another process kept the database locked for longer than the time limit."""


class StoreUnwritable(StoreError):
    """The disk is full, read-only, lost, or the rights are missing; what was there can be read."""


class StoreVersionError(StoreError):
    """The file was written by a newer version, or is no store of ours."""


class QueryError(StoreError):
    """The engine refused a statement."""


class QueryCancelled(StoreError):
    """The caller cancelled the query."""


class ImportFormatError(WorkbenchError):
    """A foreign file is broken, or of no known format."""


class TaskError(WorkbenchError):
    """A task set, an item or a scorer is not usable."""


class AnalysisError(WorkbenchError):
    """An analysis cannot answer the question as it was put."""


class ProviderError(WorkbenchError):
    """A model could not be asked.

    Attributes:
        kind: a short, stable word for the cause, stored as `error_type` (for example "http_429").
        retry_after_s: seconds that the server asked us to wait, or None.
    """

    def __init__(self, message: str, *, kind: str, retry_after_s: float | None = None) -> None:
        """Keep the cause beside the message."""
        self.kind, self.retry_after_s = kind, retry_after_s
        super().__init__(message)


class ProviderRejected(ProviderError):
    """The request itself is wrong; asking again will not help."""


class ProviderUnavailable(ProviderError):
    """The server could not answer now; asking again may help."""


class LimitReached(WorkbenchError):
    """An attempt may not ask again; what it has so far is its result.

    Attributes:
        limit_type: which limit, stored as such (for example "budget", "turns", "tool_calls",
            "tokens").
    """

    def __init__(self, message: str, *, limit_type: str) -> None:
        """Keep the limit beside the message."""
        self.limit_type = limit_type
        super().__init__(message)


class MissingExtra(WorkbenchError):
    """An optional dependency is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        """Name the library and the command that installs it."""
        super().__init__(f"{library} is not installed; run: pip install 'trace-workbench[{extra}]'")
