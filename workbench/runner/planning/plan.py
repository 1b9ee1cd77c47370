"""A plan of what to collect, and its attempts: configuration × item × trial."""

import contextlib
import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Self

import msgspec

from workbench import parameters, spool
from workbench.datasets import TaskSet
from workbench.datasets.loading import files_of
from workbench.decoding import UNDECODABLE, describe
from workbench.errors import ConfigError
from workbench.external_code import ExternalCode, is_external, locate
from workbench.records import Configuration, Item, Task, as_dict, content_id, json_text
from workbench.runner import tools
from workbench.runner.attempts.session import Strategy
from workbench.runner.limits import Backoff
from workbench.runner.planning.target import (
    IN_PROCESS,
    Positive,
    Settings,
    Target,
    own_provider,
)
from workbench.runner.providers import services
from workbench.runner.providers.current_attempt import AttemptKey
from workbench.runner.providers.own import OwnProvider
from workbench.runner.strategies.custom import Unimported
from workbench.runner.tools.own import OwnToolClass
from workbench.scoring import Scorer, TaskItem, UnimportedScorer, user_code
from workbench.trust import (
    Gate,
    Permission,
    Trust,
    check_unchanged,
    to_run,
    to_send_file,
    to_send_key,
)

Amount = Annotated[float, msgspec.Meta(ge=0)]
STRATEGY_CODE, TOOL_CODE, PROVIDER_CODE = CODE_SETTINGS = (
    "strategy_code",
    "tool_code",
    "provider_code",
)
"""Settings of a configuration that identify code of the user's."""


class Plan(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a collection; a model may override those of `Settings`.

    Attributes:
        models: names, or tables of settings with a `model`.
        tasks: names of shipped sets, files, or tables (see `datasets.load_task`).
        strategies: names, or tables of parameters with a `name`; every combination of model and
            strategy is a configuration, run on all items.
        strategy_params: parameters by strategy name.
        helpers: other models that strategies and scorers use, by the name they use: `judge`,
            `large` …
        trials: repeats of every item.
        limit: most items of each task; which ones depends on their content alone.
        seed: base of the seeds, one per item and trial; None leaves the seed to the server.
        budget_usd, budget_tokens, budget_j, budget_time_s: what the plan may spend over all its
            launches (see `spending`): dollars, tokens (input and output), joules, seconds.
        energy: auto measures models on this machine where there is a meter; off does not.
        batch: whether requests are sent in batches, at batch prices, where the provider has them.
        retries: tries after the first, if it failed for a temporary reason.
        allow_code: whether the plan or its task files name code, scorers `module:function` or
            strategies `module:Class`; whether it may be imported is decided by the user (see
            `workbench.trust`).
    """

    models: Annotated[tuple[str | dict[str, Any], ...], msgspec.Meta(min_length=1)]
    tasks: Annotated[tuple[str | dict[str, Any], ...], msgspec.Meta(min_length=1)]
    strategies: Annotated[tuple[str | dict[str, Any], ...], msgspec.Meta(min_length=1)] = (
        "direct",
    )
    strategy_params: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    helpers: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    trials: Positive = 1
    limit: Positive | None = None
    seed: int | None = None
    budget_usd: Amount | None = None
    budget_tokens: Amount | None = None
    budget_j: Amount | None = None
    budget_time_s: Amount | None = None
    energy: Literal["auto", "off"] = "auto"
    batch: bool = False
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 5
    allow_code: bool = False

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Build a plan from TOML or flags; ConfigError names the setting that is wrong."""
        try:
            return msgspec.convert(dict(settings), cls)
        except msgspec.ValidationError as error:
            why = describe(error, settings, cls.__struct_fields__)
            raise ConfigError(f"the plan is not usable: {why}") from error

    @property
    def targets(self) -> list[Target]:
        """The models, each with its settings."""
        return [Target.of(self, model) for model in self.models]

    @property
    def at_once(self) -> int:
        """Concurrent attempts: the largest concurrency of the plan's models."""
        return max(target.concurrency for target in self.targets)

    def helper(self, name: str) -> Target:
        """Resolve a helper model; ConfigError says how to add one."""
        if name not in self.helpers:
            known = ", ".join(sorted(self.helpers)) or "none"
            raise ConfigError(
                f"the helper model {name!r} is needed, and the plan has {known}; add a table"
                f" [helpers.{name}] with its model"
            )
        try:
            return Target.of(self, self.helpers[name])
        except ConfigError as error:
            raise ConfigError(f"[helpers.{name}]: {error}") from error

    @property
    def backoff(self) -> Backoff:
        """The back-off between tries."""
        return Backoff(retries=self.retries)

    def as_json(self) -> str:
        """Write the plan for the run's record."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @classmethod
    def special(cls, recorded: str) -> dict[str, Any]:
        """Return the settings of a recorded plan that are not defaults; {} if it is no plan."""
        try:
            settings = msgspec.json.decode(recorded)
        except UNDECODABLE:
            return {}
        defaults = {
            f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory()
            for f in msgspec.structs.fields(cls)
        }
        pairs = settings.items() if isinstance(settings, dict) else ()
        return {n: v for n, v in pairs if v is not None and v != defaults.get(n, msgspec.UNSET)}

    def configuration(
        self,
        target: Target,
        strategy: Strategy,
        among: Sequence[Strategy] = (),
        code: Mapping[str, str] = MappingProxyType({}),
    ) -> Configuration:
        """Make the record of a model with a strategy.

        Args:
            target: the model.
            strategy: how it is used.
            among: all strategies of the plan.
            code: identities of the user's providers and tools, by name.
        """
        settings = target.differences
        named = getattr(strategy, "helpers", ())
        endpoints = {target.endpoint, *(self.helper(name).endpoint for name in named)}
        provider_code = {name: code[name] for name in sorted(endpoints & code.keys())}
        settings |= {PROVIDER_CODE: provider_code} if provider_code else {}
        settings |= {"seed": self.seed} if self.seed is not None else {}
        settings |= {"batch": True} if self.batch and target.endpoint not in IN_PROCESS else {}
        settings |= {"helpers": {n: self.helper(n).identity for n in named}} if named else {}
        own = getattr(strategy, "identity", None)  # of code of the user's
        settings |= {STRATEGY_CODE: own} if own is not None else {}
        used = getattr(strategy, "tools", ()) if own is None else ()
        identities = {name: code.get(name) or tools.identity(name) for name in used}
        tool_code = {name: i for name, i in identities.items() if i is not None}
        settings |= {TOOL_CODE: tool_code} if tool_code else {}
        return Configuration(
            model=target.model,
            provider=target.provider_name,
            strategy=strategy.name,
            strategy_params=json_text(dict(strategy.params)) if strategy.params else None,
            effort=getattr(strategy, "effort", None) or target.effort,
            thinking_budget_tokens=_thinking_budget(target, strategy),
            temperature=target.temperature,
            top_p=target.top_p,
            max_tokens=target.max_tokens,
            precision=target.weights,
            machine=target.machine,
            settings=json_text(settings) if settings else None,
            configuration=_label(target, strategy, among),
        )


def _thinking_budget(target: Target, strategy: Strategy) -> int | None:
    """Return the cap on thinking that a strategy sets, else that of the plan."""
    return getattr(strategy, "thinking_tokens", None) or target.thinking_budget_tokens


def _label(target: Target, strategy: Strategy, among: Sequence[Strategy]) -> str:
    """Name a configuration: model, strategy, and the parameters in which it differs from others."""
    same_name = [other.params for other in among if other.name == strategy.name]
    special = [
        f"{name}={value}"
        for name, value in strategy.params.items()
        if any(other.get(name) != value for other in same_name)
    ]
    budget = target.thinking_budget_tokens  # a strategy's own is among its parameters
    parts = [
        target.model,
        strategy.name,
        *special,
        target.effort,
        f"{budget}tok" if budget else None,
    ]
    return " ".join(p for p in parts if p)


def seed_of(base: int | None, item_id: str, trial: int) -> int | None:
    """Derive the seed of an item's trial (31 bits), the same for all configurations."""
    return None if base is None else int(content_id(base, item_id, trial)[:8], 16) & 0x7FFFFFFF


class Planned(NamedTuple):
    """One attempt to be made."""

    configuration: Configuration
    target: Target
    strategy: Strategy
    task: TaskSet
    item: TaskItem
    item_id: str
    trial: int

    @property
    def key(self) -> AttemptKey:
        """The attempt's key, the same in every run."""
        return self.configuration.configuration_id, self.item_id, self.trial


class Work:
    """An expanded plan: its tasks, its configurations and its attempts in order.

    The order is the same on every launch, and every beginning of it is balanced: trial by trial,
    the items of all tasks in turn, every configuration on an item before the next item. Items are
    sorted by content hash, so that easy and hard ones are mixed.

    Attributes:
        task_sets: the tasks with their scorers.
        tasks: their records.
        configurations: each with its target and strategy.
        wants: permissions that the user has not given; with any, the plan cannot be collected.
        providers: classes of the user's providers, by endpoint.
        own_tools: classes of the user's tools, by name.
    """

    def __init__(
        self,
        plan: Plan,
        tasks: Sequence[TaskSet],
        strategies: Sequence[Strategy],
        *,
        wants: Sequence[Permission] = (),
        code: Mapping[str, ExternalCode] = MappingProxyType({}),
        providers: Mapping[str, OwnProvider] = MappingProxyType({}),
        own_tools: Mapping[str, OwnToolClass] = MappingProxyType({}),
    ) -> None:
        """Expand a plan; `code` is where `providers` and `own_tools` are imported from."""
        self.wants = tuple(wants)
        self.providers, self.own_tools = providers, own_tools
        identities = {name: located.identity for name, located in code.items()}
        self.plan = plan
        self.task_sets = tuple(tasks)
        self.tasks: tuple[Task, ...] = tuple(t.task for t in tasks)
        self.configurations = [
            (plan.configuration(target, strategy, strategies, identities), target, strategy)
            for target in plan.targets
            for strategy in strategies
        ]
        ids = self.configuration_ids
        if len(set(ids)) < len(ids):
            raise ConfigError("the plan names a model or a strategy twice")
        self.configurations = _with_unique_names(self.configurations)
        chosen = [
            sorted(((task.record(i), task, i) for i in task.items), key=lambda row: row[0].item_id)
            for task in tasks
        ]
        turns = itertools.zip_longest(*[rows[: plan.limit] for rows in chosen])
        self._items = [row for turn in turns for row in turn if row is not None]
        n_times = Counter(record.item_id for record in self.items)
        for record in self.items:
            if n_times[record.item_id] > 1:
                raise ConfigError(
                    f"the item {record.item!r} stands twice in the plan's tasks; name each task"
                    " once"
                )

    @property
    def items(self) -> list[Item]:
        """The records of the items."""
        return [record for record, _, _ in self._items]

    @property
    def configuration_ids(self) -> list[str]:
        """The ids of the configurations."""
        return [c.configuration_id for c, _, _ in self.configurations]

    def __len__(self) -> int:
        """Count the attempts."""
        return self.plan.trials * len(self._items) * len(self.configurations)

    def __iter__(self) -> Iterator[Planned]:
        """Yield the attempts in order."""
        return (planned for _, planned in self.without(frozenset()))

    def without(self, known: Collection[AttemptKey]) -> Iterator[tuple[int, Planned]]:
        """Yield the attempts that are not `known`, each with its place in the order, from 1."""
        place, ids = 0, self.configuration_ids
        for trial in range(self.plan.trials):
            for record, task, item in self._items:
                item_id = record.item_id
                for configuration_id, how in zip(ids, self.configurations, strict=True):
                    place += 1
                    if (configuration_id, item_id, trial) not in known:
                        yield place, Planned(*how, task, item, item_id, trial)

    def count(self, known: Collection[AttemptKey]) -> Counter[str]:
        """Count the attempts that are `known`, by configuration."""
        item_ids, trials = [record.item_id for record, _, _ in self._items], range(self.plan.trials)
        return Counter(
            {
                c: sum((c, i, t) in known for i in item_ids for t in trials)
                for c in self.configuration_ids
            }
        )


def _with_unique_names(
    configurations: Sequence[tuple[Configuration, Target, Strategy]],
) -> list[tuple[Configuration, Target, Strategy]]:
    """Give every configuration a unique name, as the store does for its configurations."""
    names = parameters.unique_names(
        parameters.naming_input(as_dict(c)) for c, _, _ in configurations
    )
    return [
        (msgspec.structs.replace(c, configuration=names[c.configuration_id]), target, strategy)
        for c, target, strategy in configurations
    ]


class Typed(NamedTuple):
    """Parts of a plan that the user typed or configured, which need no permission.

    Attributes:
        strategies: names of strategies; their code is searched in the working directory first.
        keys: (variable, address) of keys that may be sent.
        addresses: addresses to which tasks may be sent.
        tasks: whether the user typed the tasks.
        recordings: paths of recordings.
        endpoints: providers of the user's; their code is searched as that of strategies is.
        tools: tools of the user's, likewise.
    """

    strategies: Collection[str] = ()
    keys: Collection[tuple[str, str]] = ()
    addresses: Collection[str] = ()
    tasks: bool = False
    recordings: Collection[str] = ()
    endpoints: Collection[str] = ()
    tools: Collection[str] = ()


_NOTHING_TYPED = Typed()


def expand(
    plan: Plan,
    folder: Path | None = None,
    *,
    trust: Trust = False,
    typed: Typed = _NOTHING_TYPED,
    preview: bool = False,
) -> Work:
    """Load a plan's tasks and strategies by name; files are searched in the plan's folder first.

    Args:
        plan: the plan.
        folder: the plan's folder.
        trust: decides on code that the plan or its task files name, on keys sent to other addresses
            than their provider's, and on files from outside the plan's folder (see `Gate`).
        typed: parts that need no permission.
        preview: import only code that is trusted already, and ask nothing; `Work.wants` lists the
            missing permissions. Such work cannot be collected.

    Raises:
        ConfigError: a name is wrong, or something is not trusted.
    """
    from workbench.datasets import load_task
    from workbench.runner import strategies

    for given in plan.strategy_params:
        if not is_external(given) and strategies.own(given) is None:
            strategies.kind(given)  # raises on an unknown name, which would have no effect
    chosen = [_strategy(plan, entry, folder, typed) for entry in plan.strategies]
    helpers = {name: plan.helper(name).identity for name in plan.helpers}
    tasks = [
        load_task(task, folder=folder, find_scorer=_located_scorer, helpers=helpers)
        for task in plan.tasks
    ]
    provider_code = _provider_code(plan, folder, typed)
    code = [s.code for s in chosen if isinstance(s, Unimported)]
    tool_code = _tool_code(chosen, folder, typed)
    code += [*provider_code.values(), *tool_code.values()]
    code += [s.code for t in tasks for s in _own_scorers(t)]
    # a pair for each: of two that are equal, each runs what it has read itself
    runs = [(c, to_run(c)) for c in code]
    wanted = [p for c, p in runs if not c.is_typed]
    wanted += _sends(plan, folder, typed, provider_code)
    gate = Gate.of(trust)
    lacking = gate.lacking(wanted)
    if lacking and not preview:
        gate.require(wanted)
        for c, permission in runs:
            check_unchanged(c, permission)
        lacking = []
    refused = {p.digest for p in lacking}
    trusted = {c for c, _ in runs} - {c for c, p in runs if p.digest in refused}
    return Work(
        plan,
        [_with_scorers(task, trusted) for task in tasks],
        [
            strategies.imported(s.code, s.params)
            if isinstance(s, Unimported) and s.code in trusted
            else s
            for s in chosen
        ],
        wants=lacking,
        code=provider_code | tool_code,
        providers={
            name: OwnProvider.imported(c) for name, c in provider_code.items() if c in trusted
        },
        own_tools={name: OwnToolClass.imported(c) for name, c in tool_code.items() if c in trusted},
    )


def _targets(plan: Plan) -> list[Target]:
    """List the models and helpers of a plan."""
    return [*plan.targets, *(plan.helper(name) for name in plan.helpers)]


def _provider_code(plan: Plan, folder: Path | None, typed: Typed) -> dict[str, ExternalCode]:
    """Locate the code of the user's providers, by endpoint."""
    names = sorted({target.endpoint for target in _targets(plan) if target.is_own})
    plugged = {name: own_provider(name) for name in names if not is_external(name)}
    named = [name for name in names if name not in plugged]
    located = _located("provider", named, typed.endpoints, folder)
    return {name: code for name, code in plugged.items() if code is not None} | located


def _tool_code(
    strategies: Iterable[Strategy | Unimported], folder: Path | None, typed: Typed
) -> dict[str, ExternalCode]:
    """Locate the code of tools that agents of ours name `module:Class` or `file.py:Class`."""
    agents = (s for s in strategies if not isinstance(s, Unimported))
    names = {name for s in agents for name in getattr(s, "tools", ()) if is_external(name)}
    return _located("tool", sorted(names), typed.tools, folder)


def _located(
    what: str, names: Iterable[str], typed: Collection[str], folder: Path | None
) -> dict[str, ExternalCode]:
    """Locate classes of the user's; typed names are searched in the working directory first.

    Files beside a plan belong to the plan.
    """
    beside = [folder] if folder is not None else [Path()]
    located: dict[str, ExternalCode] = {}
    for name in names:
        if name in typed:
            with contextlib.suppress(ConfigError):
                located[name] = locate(what, name, [Path()], is_typed=True)
        if name not in located:
            located[name] = locate(what, name, beside)
        located[name].check("class")
    return located


def _strategy(
    plan: Plan, entry: str | dict[str, Any], folder: Path | None, typed: Typed
) -> Strategy | Unimported:
    """Make a strategy that ships, or locate code of the user's."""
    from workbench.runner import strategies

    table = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"a table of `strategies` needs a name: {table}")
    params = plan.strategy_params.get(name, {}) | table
    plugin = strategies.own(name)
    if plugin is not None:
        return Unimported(plugin, params)
    if not is_external(name):
        return strategies.get(name, **params)
    return Unimported(_located("strategy", [name], typed.strategies, folder)[name], params)


def _located_scorer(name: str, folder: Path) -> UnimportedScorer:
    return user_code.locate(name, [folder])


def _own_scorers(task: TaskSet) -> list[UnimportedScorer]:
    return [s for s in task.scorers.values() if isinstance(s, UnimportedScorer)]


def _with_scorers(task: TaskSet, trusted: Collection[ExternalCode]) -> TaskSet:
    """Import the trusted scorers of a task."""
    loaded: dict[str, Scorer] = {s.name: s.load() for s in _own_scorers(task) if s.code in trusted}
    first = loaded.get(task.scorer.name, task.scorer)
    return dataclasses.replace(task, scorer=first, scorers={**task.scorers, **loaded})


def _sends(
    plan: Plan, folder: Path | None, typed: Typed, code: Mapping[str, ExternalCode]
) -> Iterator[Permission]:
    """Yield permissions for keys and files that are sent to addresses of no known provider."""
    targets = _targets(plan)
    files = [] if folder is None else _from_outside(plan, targets, folder, typed)
    for target in targets:
        if target.endpoint in IN_PROCESS:
            continue
        variable, address = target.api_key_env, target.address
        is_mine = variable is None or (variable, address) in typed.keys
        located = code.get(target.endpoint)
        if located is not None and not located.is_typed:  # it sends what it gets where it likes
            if variable is not None:
                yield to_send_key(variable, located.name)
            yield from (to_send_file(file, located.name, target.extra_body) for file in files)
            continue
        if variable is not None and not is_mine and not services.is_own_key(variable, address):
            yield to_send_key(variable, address)
        is_known = services.is_own_address(address) or address in typed.addresses
        # fields of the plan's own may name servers that a provider passes the request on to
        if not (is_known or target.is_on_this_host) or target.extra_body:
            yield from (to_send_file(file, address, target.extra_body) for file in files)


def _from_outside(
    plan: Plan, targets: Sequence[Target], folder: Path, typed: Typed
) -> Sequence[Path]:
    """List the files that a plan reads, and the user did not type, which are not of its folder.

    Hidden files are not, even where the plan lies in the user's home.
    """
    files = [] if typed.tasks else [f for t in plan.tasks for f in files_of(t, folder)]
    for target in targets:  # a judge is sent the replies that a recording holds
        if target.recording is not None and target.recording not in typed.recordings:
            files += _files_of_recording(Path(target.recording))
    home = folder.resolve()
    outside: dict[Path, None] = {}
    for file in map(Path.resolve, files):
        within = file.relative_to(home).parts if file.is_relative_to(home) else None
        if within is None or any(part.startswith(".") for part in within):
            outside[file] = None
    return list(outside)


def _files_of_recording(path: Path) -> Iterator[Path]:
    """List a recording, and the links in its folder and its spool, which may lead elsewhere."""
    yield path
    for folder in (path, spool.folder_of(path)):
        if folder.is_symlink():
            yield folder
        for place, folders, names in os.walk(folder):
            inner = (Path(place, name) for name in (*folders, *names))
            yield from (entry for entry in inner if entry.is_symlink())
