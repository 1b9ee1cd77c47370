"""Report on one imported file: counts, conventions, duplicates, sums that differ."""

import dataclasses
from collections import Counter
from pathlib import Path

from workbench.errors import ImportFormatError

_KEPT = 100  # of each kind of remark; the rest is only counted, so that a report stays small


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """A total that the file states, beside the one found by adding its rows up.

    Attributes:
        name: what is added up.
        stated: what the file says.
        found: what its rows give.
        tolerance: largest difference that counts as equal, in the total's own unit.
        nulls: how many of the rows have no value, and how they were counted; "" where all have one.
    """

    name: str
    stated: float
    found: float
    tolerance: float = 0.0
    nulls: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two are the same."""
        return abs(self.stated - self.found) <= self.tolerance


@dataclasses.dataclass(slots=True)
class Remarks:
    """Sentences of one kind: all counted, the first hundred kept."""

    n: int = 0
    kept: list[str] = dataclasses.field(default_factory=list)

    def add(self, text: str) -> None:
        """Count one, and keep it while there is room."""
        self.n += 1
        if len(self.kept) < _KEPT:
            self.kept.append(text)


@dataclasses.dataclass(slots=True)
class FileReport:
    """What reading one file found; filled while the records are drawn from the iterator.

    Attributes:
        path: the file.
        format: name of the source, and of the mapping where one was used; "" until it is known.
        rows_in: rows, samples or price lines in the file.
        rows_out: traces, results or prices made of them.
        skipped: reason → number of rows not taken.
        duplicates: rows left out because one before them says the same thing about the same trial.
        conventions: token convention → number of usage objects that follow it.
        mismatches: contradictions within rows; a row may have several.
        totals: totals that the file states, beside ours.
        notes: anything else that a reader should know.
        skip_bad_rows: whether a row that cannot be read is passed over and counted; else its file
            is refused.
        bad_rows: the rows passed over so; `skipped` counts them too.
        nothing: why a file of a known format holds nothing to take, as a session in which no model
            was called.
        incomplete: why the file is not all in, beside rows skipped and totals that differ.
    """

    path: Path
    format: str = ""
    rows_in: int = 0
    rows_out: int = 0
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    duplicates: Remarks = dataclasses.field(default_factory=Remarks)
    conventions: Counter[str] = dataclasses.field(default_factory=Counter)
    mismatches: Remarks = dataclasses.field(default_factory=Remarks)
    totals: list[Total] = dataclasses.field(default_factory=list)
    notes: Counter[str] = dataclasses.field(default_factory=Counter)
    skip_bad_rows: bool = False
    bad_rows: Remarks = dataclasses.field(default_factory=Remarks)
    incomplete: Remarks = dataclasses.field(default_factory=Remarks)
    nothing: str = ""

    def bad_row(self, text: str, cause: ImportFormatError | None = None, *, read: int = 1) -> None:
        """Count a row that cannot be read, where such rows are to be passed over.

        Args:
            text: what is wrong, and where.
            cause: the error that said so.
            read: rows to count as rows of the file; 0 where it is counted already.

        Raises:
            ImportFormatError: such rows are not to be passed over.
        """
        if not self.skip_bad_rows:
            raise ImportFormatError(text) from cause
        self.rows_in += read
        self.skipped["rows that cannot be read"] += 1
        self.bad_rows.add(text)

    def lacks(self, text: str) -> None:
        """Say what of the file did not come in, or may be missing."""
        self.incomplete.add(text)

    def skip(self, reason: str, what: str) -> None:
        """Count a row that was not taken, and name it."""
        self.rows_in += 1
        self.skipped[reason] += 1
        self.incomplete.add(f"{what}: not taken")

    @property
    def adds_up(self) -> bool:
        """Whether every row and every stated total agrees."""
        return not self.mismatches.n and all(t.agrees for t in self.totals)

    @property
    def is_complete(self) -> bool:
        """Whether all of the file came in."""
        taken = self.rows_out > 0 or self.duplicates.n > 0
        return taken and not self.incomplete.n and not self.skipped.total()

    @property
    def is_whole(self) -> bool:
        """Whether all of the file came in, and adds up to the totals that it states.

        Rows that contradict themselves came in too; they are remarks.
        """
        return self.is_complete and all(t.agrees for t in self.totals)

    @property
    def accounted(self) -> bool:
        """Whether each row in is a row out, a duplicate or skipped with a reason."""
        return self.rows_in == self.rows_out + self.duplicates.n + self.skipped.total()
