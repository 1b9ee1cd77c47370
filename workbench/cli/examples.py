"""Examples section of the help of a command."""

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.analysis import Analysis


def examples(*lines: str) -> str:
    r"""Write an Examples section for `--help`, as the epilog of a command.

    Every command gives at least two command lines that run; a test runs or parses each of them.

    >>> examples("workbench runs", "workbench runs --format json")
    '\x08\nExamples:\n  workbench runs\n  workbench runs --format json'
    """
    # \b keeps click from wrapping the paragraph
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def of_analysis(declared: "Analysis") -> str:
    """Write the Examples section of an analysis: its defaults, and the example it declares."""
    plain = ["workbench", "analyze", declared.name]
    options = dict(declared.example)
    words = list(plain)
    if where := options.pop("where", ""):
        words += ["--where", str(where)]
    if by := options.pop("by", None):
        words += ["--by", by if isinstance(by, str) else ",".join(by)]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    if words == plain:
        words += ["--by", "model,task", "--format", "json"]
    return examples(shlex.join(plain), shlex.join(words))
