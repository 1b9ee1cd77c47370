"""Examples in docstrings are tests: every module that has one is tried."""

import doctest
import importlib

import pytest

from tests.support import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("workbench", "widgets")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples():
    """A move of the packages does not leave this without any."""
    assert len(MODULES) >= 5


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module):
    """What a docstring shows is what comes out."""
    failed, tried = doctest.testmod(importlib.import_module(module))

    assert tried
    assert not failed
