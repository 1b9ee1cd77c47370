"""Specification of a task set, from its file, a `.toml` file of the same name, or the plan."""

from typing import Any, Literal

import msgspec

from workbench.decoding import describe
from workbench.errors import TaskError
from workbench.scoring import TaskItem

Answers = Literal["letter", "index0", "index1", "text"]
Names = str | tuple[str, ...]


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worked example that strategies show to a model; never one of the items.

    Attributes:
        thought: the reasoning before the answer.
    """

    input: str
    target: str
    thought: str = ""
    choices: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The input with its lettered options, as the model sees it."""
        return TaskItem("", "", self.input, self.target, choices=self.choices).question


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Description of a task set and assignment of its columns to fields; all fields are optional.

    A column is named as in the file; "a.b" is the field b of an object in column a. The source of a
    text may be a template over columns: "{context}, {question}".

    Attributes:
        task: name of the set; by default the file's.
        scorer: one name, or several; the first gives a trace its score. `module:function` is a
            scorer of the user.
        options: settings of the scorers, for all items: tolerance, rubric, votes …
        prompt: the instruction that comes before every question.
        input, target, item: column or template of the question, the target and the key.
        choices: a column with the list of options, or columns with one option each; if none of the
            names is a column, they are the options themselves.
        answers: what the target of a choice is: letter, index0 (from 0), index1, or the option's
            text.
        shuffle: whether the options of choices are shuffled, in the same order in every run; a
            number is the seed. By default they are if the first option of every item is right.
        tags: columns whose values become tags.
        metadata: columns that are stored with an item, or a table of names and columns.
        tests, entry_point: columns for the scorer unit_tests.
        rows: the field of a JSON file with the list of rows.
        decimal: the decimal mark of numbers in text, "." or ","; by default it is detected.
        skip_incomplete: skip rows without a question or a target, instead of refusing the file.
    """

    task: str | None = None
    version: str | None = None
    description: str | None = None
    licence: str | None = None
    scorer: Names | None = None
    options: dict[str, Any] | None = None
    prompt: str | None = None
    examples: tuple[Example, ...] | None = None
    input: str | None = None
    target: str | None = None
    item: str | None = None
    choices: Names | None = None
    answers: Answers | None = None
    shuffle: bool | int | None = None
    tags: Names | None = None
    cluster: str | None = None
    difficulty: str | None = None
    value_usd: str | None = None
    human_cost_usd: str | None = None
    metadata: dict[str, str] | tuple[str, ...] | None = None
    tests: str | None = None
    entry_point: str | None = None
    rows: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: Literal[".", ","] | None = None
    skip_incomplete: bool | None = None

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scorers; () if there is none."""
        if self.scorer is None:
            return ()
        return (self.scorer,) if isinstance(self.scorer, str) else tuple(self.scorer)


class TaskSpec(Header, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Task set in a plan: a file or a shipped set (`task`), and overrides of its header.

    Attributes:
        path: the file; relative to the plan's folder, else to the working directory.
        allow_code: whether scorers named `module:function` in the file may be imported.
    """

    path: str | None = None
    allow_code: bool = False

    def over(self, header: Header) -> Header:
        """Return the file's header with the fields that are set here replaced."""
        values = {f: getattr(self, f) for f in Header.__struct_fields__}
        return msgspec.structs.replace(header, **{f: v for f, v in values.items() if v is not None})


def convert(raw: Any, kind: type[Any], place: str) -> Any:
    """Convert a table to a header or a spec; TaskError names the place and the field."""
    try:
        return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        why = describe(error, raw, kind.__struct_fields__)
        raise TaskError(f"{place}: {why}") from error
