"""Strategies by name: ways to answer an item with a model, one file each, imported on use."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import plugins
from workbench.errors import ConfigError
from workbench.external_code import ExternalCode, is_external, locate
from workbench.runner.attempts.session import Strategy
from workbench.runner.strategies.parameters import checked

_HOMES = {
    "direct": ("workbench.runner.strategies.direct", "Direct"),
    "plain": ("workbench.runner.strategies.plain", "Plain"),
    "cot": ("workbench.runner.strategies.cot", "ChainOfThought"),
    "think": ("workbench.runner.strategies.think", "Think"),
    "self_consistency": ("workbench.runner.strategies.self_consistency", "SelfConsistency"),
    "self_refine": ("workbench.runner.strategies.self_refine", "SelfRefine"),
    "best_of_n": ("workbench.runner.strategies.best_of_n", "BestOfN"),
    "react": ("workbench.runner.strategies.react", "ReAct"),
    "reflexion": ("workbench.runner.strategies.reflexion", "Reflexion"),
    "reflexion_oracle": ("workbench.runner.strategies.reflexion", "ReflexionOracle"),
    "effort": ("workbench.runner.strategies.effort", "Effort"),
    "relative_effort": ("workbench.runner.strategies.relative_effort", "RelativeEffort"),
    "budgeted": ("workbench.runner.strategies.budgeted", "Budgeted"),
    "diverse_prompts": ("workbench.runner.strategies.diverse_prompts", "DiversePrompts"),
    "sequential_refinement": (
        "workbench.runner.strategies.sequential_refinement",
        "SequentialRefinement",
    ),
    "parallel_distill_refine": (
        "workbench.runner.strategies.parallel_distill_refine",
        "ParallelDistillRefine",
    ),
    "plan_and_budget": ("workbench.runner.strategies.plan_and_budget", "PlanAndBudget"),
    "iterative_agent_decoding": (
        "workbench.runner.strategies.iterative_agent_decoding",
        "IterativeAgentDecoding",
    ),
    "speculative_steps": ("workbench.runner.strategies.speculative_steps", "SpeculativeSteps"),
    "cascade": ("workbench.runner.strategies.cascade", "Cascade"),
    "tree_search": ("workbench.runner.strategies.tree_search", "TreeSearch"),
}


def names() -> tuple[str, ...]:
    """List the strategies."""
    return tuple(_HOMES)


def own(name: str) -> ExternalCode | None:
    """Locate the code of a strategy that a plug-in offers; None where none has that name.

    Raises:
        ConfigError: the plug-in cannot be used.
    """
    plugin = None if name in _HOMES or is_external(name) else plugins.find("strategy", name)
    return None if plugin is None else plugin.code()


def kind(name: str) -> type[Any]:
    """Import the class of a strategy that ships; ConfigError offers the nearest name."""
    if name not in _HOMES:
        own = ", and module:Class or file.py:Class for one of your own"
        hint = plugins.hint("strategy", name, _HOMES, own=own)
        raise ConfigError(f"no strategy is called {name!r}; {hint}")
    module, attribute = _HOMES[name]
    strategy_class: type[Any] = getattr(importlib.import_module(module), attribute)
    return strategy_class


def find(
    name: str, params: Mapping[str, Any], *, allow_code: bool, folder: Path | None = None
) -> Strategy:
    """Make a strategy that ships, or the user's own where that is allowed.

    Args:
        name: as in `names`, of a plug-in, or `module:Class` or `file.py:Class`.
        params: its parameters.
        allow_code: whether the user has allowed to import code.
        folder: where that is looked for first: the plan's.

    Raises:
        ConfigError: there is none, it has no such parameter, or it is code that was not allowed.
    """
    code = own(name)
    if code is None and not is_external(name):
        return get(name, **params)
    if code is not None and code.is_typed:
        return imported(code, params)
    if not allow_code:
        raise ConfigError(
            f"the strategy {name!r} is code, and importing it would run it; read it, and give"
            " allow_code=True if you trust it"
        )
    return imported(code or locate("strategy", name, [folder or Path()]), params)


def imported(code: ExternalCode, params: Mapping[str, Any]) -> Strategy:
    """Import and make a strategy of the user's; the caller has made sure that it may run.

    Raises:
        ConfigError: it is none, has no such parameter, or bears the name of one that ships.
    """
    from workbench.runner.strategies import custom

    strategy = custom.make(code, params)
    if code.plugin is not None and strategy.name != code.plugin:
        raise ConfigError(
            f"the plug-in {code.plugin!r} is a strategy that calls itself {strategy.name!r}; its"
            " `name` must be that of its entry point"
        )
    if strategy.name in _HOMES:
        raise ConfigError(
            f"the strategy {code.name!r} calls itself {strategy.name!r}, which is one that ships;"
            " give it another name"
        )
    return strategy


def get(name: str, **params: Any) -> Strategy:
    """Make a strategy by name; its parameters are the fields of its class.

    Raises:
        ConfigError: there is no such strategy, or it has no such parameter.
    """
    strategy_class = kind(name)
    fields = {f.name: f for f in dataclasses.fields(strategy_class)}
    for key in params:
        if key not in fields:
            raise ConfigError(
                f"strategy {name!r} has no parameter {key!r}; it has {', '.join(fields) or 'none'}"
            )
    given = {key: checked(name, fields[key], value) for key, value in params.items()}
    strategy: Strategy = strategy_class(**given)
    return strategy
