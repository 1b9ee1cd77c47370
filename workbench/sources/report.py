"""Report on one imported file: counts of rows, conventions, duplicates, totals that differ."""

import dataclasses
from collections import Counter
from pathlib import Path

from workbench.errors import ImportFormatError

_MAX_TEXTS = 100  # of each kind of remark; further ones are only counted, to limit a report's size


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """A total that a file states, with the total of its rows.

    Attributes:
        name: the quantity.
        stated: the total in the file.
        computed: the sum over the rows.
        tolerance: largest difference that counts as equal, in the total's own unit.
        nulls: how many rows have no value, and how they were counted; "" if all have one.
    """

    name: str
    stated: float
    computed: float
    tolerance: float = 0.0
    nulls: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the two differ by at most the tolerance."""
        return abs(self.stated - self.computed) <= self.tolerance


@dataclasses.dataclass(slots=True)
class Remarks:
    """Remarks of one kind: the number of all, and the texts of the first hundred."""

    n: int = 0
    texts: list[str] = dataclasses.field(default_factory=list)

    def add(self, text: str) -> None:
        """Count a remark; store its text if it is one of the first hundred."""
        self.n += 1
        if len(self.texts) < _MAX_TEXTS:
            self.texts.append(text)


@dataclasses.dataclass(slots=True)
class FileReport:
    """Report on one file, filled while the iterator of its records advances.

    Attributes:
        path: the file.
        format: name of the source, and of the mapping if one was used; "" until it is known.
        rows_in: rows, samples or price lines in the file.
        rows_out: traces, results or prices made of them.
        skipped: reason → number of rows not imported.
        duplicates: rows not imported because an earlier row has the same trial and values.
        conventions: token convention → number of usage objects that follow it.
        mismatches: contradictions within rows; a row may have several.
        totals: totals that the file states, with those of its rows.
        notes: other remarks → how often they apply.
        skip_bad_rows: whether a row that cannot be read is skipped and counted; else its file is
            refused.
        bad_rows: the rows skipped for this reason; `skipped` counts them too.
        why_empty: why a file of a known format has no record, as a session in which no model
            was called.
        n_bytes: bytes read so far, of formats that are read line by line; for the progress bar.
        incomplete: missing parts, other than skipped rows and totals that differ.
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
    why_empty: str = ""
    n_bytes: int = 0

    def bad_row(self, text: str, cause: ImportFormatError | None = None, *, read: int = 1) -> None:
        """Count a row that cannot be read, if such rows are skipped.

        Args:
            text: the fault and its place.
            cause: the original error.
            read: rows to add to `rows_in`; 0 if the row is counted already.

        Raises:
            ImportFormatError: such rows are not skipped.
        """
        if not self.skip_bad_rows:
            raise ImportFormatError(text) from cause
        self.rows_in += read
        self.skipped["rows that cannot be read"] += 1
        self.bad_rows.add(text)

    def add_missing(self, text: str) -> None:
        """Record a part of the file that is missing, or may be."""
        self.incomplete.add(text)

    def skip(self, reason: str, what: str) -> None:
        """Count and name a row that is not imported."""
        self.rows_in += 1
        self.skipped[reason] += 1
        self.incomplete.add(f"{what}: not imported")

    @property
    def adds_up(self) -> bool:
        """Whether every row and every stated total agrees."""
        return not self.mismatches.n and all(t.agrees for t in self.totals)

    @property
    def is_complete(self) -> bool:
        """Whether all of the file was imported."""
        has_records = self.rows_out > 0 or self.duplicates.n > 0
        return has_records and not self.incomplete.n and not self.skipped.total()

    @property
    def is_whole(self) -> bool:
        """Whether all of the file was imported, and its rows agree with the totals that it states.

        Contradictions within rows are remarks: such rows are imported.
        """
        return self.is_complete and all(t.agrees for t in self.totals)

    @property
    def is_accounted_for(self) -> bool:
        """Whether each row in is a row out, a duplicate or skipped with a reason."""
        return self.rows_in == self.rows_out + self.duplicates.n + self.skipped.total()
