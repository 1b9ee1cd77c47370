r"""Scorers: a model's output and an item → a `Score`; shipped ones by name, or the user's own.

A scorer looks for the answer where the model says that it is: after the last "Answer:" (or "the
answer is"), in the last \boxed{…}, else at the end of the text. Only the last of several answers
counts. Text is hostile: every search is linear in its length, and what is parsed is cut to a window
first.
"""

from workbench.scoring.answers import candidate
from workbench.scoring.base import Deterministic, InlineScorer, Scorer
from workbench.scoring.items import LETTERS, TaskItem
from workbench.scoring.judge import Judge, Verdict, judge_temperature, judges, votes
from workbench.scoring.mathematics import Mathematics
from workbench.scoring.numeric import is_number
from workbench.scoring.registry import find, get, inline_names, is_own, names
from workbench.scoring.unit_tests import UnitTests, packages_of
from workbench.scoring.user_code import UnimportedScorer, UserScorer

__all__ = [
    "LETTERS",
    "Deterministic",
    "InlineScorer",
    "Judge",
    "Mathematics",
    "Scorer",
    "TaskItem",
    "UnimportedScorer",
    "UnitTests",
    "UserScorer",
    "Verdict",
    "candidate",
    "find",
    "get",
    "inline_names",
    "is_number",
    "is_own",
    "judge_temperature",
    "judges",
    "names",
    "packages_of",
    "votes",
]
