"""What is to be collected: a plan, and the attempts (configuration × item × trial) that it means."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import msgspec

from workbench import parameters
from workbench.datasets import TaskSet
from workbench.errors import ConfigError
from workbench.records import Configuration, Item, Task, as_dict, content_id, json_text
from workbench.runner.limits import Backoff
from workbench.runner.session import Strategy
from workbench.runner.target import IN_PROCESS, Positive, Settings, Target
from workbench.runner.whose import Key
from workbench.scoring import TaskItem, is_user_code

Amount = Annotated[float, msgspec.Meta(ge=0)]


class Plan(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what a collection asks, and how fast; `Settings` has what a model may override.

    Attributes:
        models: names, or tables of settings with a `model`.
        tasks: names of shipped sets, files, or tables (see `datasets.load_task`).
        strategies: names, or tables of parameters with a `name`; every combination of model and
            strategy is a configuration, asked all items.
        strategy_params: parameters by strategy name.
        helpers: other models that strategies and scorers ask, by the name they use: `judge`,
            `large` …
        trials: repeats of every item.
        limit: at most so many items of each task; which ones depends on their content alone.
        seed: base of the seeds, one per item and trial; None leaves the seed to the server.
        budget_usd, budget_tokens, budget_j, budget_time_s: what the plan may spend over all its
            launches (see `spending`): dollars, tokens (input and output), joules, seconds.
        energy: auto measures what runs on this machine, where there is a meter; off does not.
        batch: whether requests go out in batches, at batch prices, where the provider has them.
        retries: tries after the first, if it failed for a passing reason.
        allow_code: whether scorers named `module:function` by a task file, and strategies named
            `module:Class` or `file.py:Class`, may be imported.
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
            raise ConfigError(f"the plan is not usable: {error}") from error

    @property
    def targets(self) -> list[Target]:
        """The models, each with its settings."""
        return [Target.of(self, model) for model in self.models]

    @property
    def at_once(self) -> int:
        """Attempts under way at once: as many as the most of calls that a model may get."""
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
        """The waits between tries."""
        return Backoff(retries=self.retries)

    def as_json(self) -> str:
        """Write the plan for the run's record."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @classmethod
    def special(cls, recorded: str) -> dict[str, Any]:
        """Give the settings of a plan in a run's record that are not as by default; none if it is no plan."""
        try:
            settings = msgspec.json.decode(recorded)
        except msgspec.DecodeError:
            return {}
        usual = {
            f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory()
            for f in msgspec.structs.fields(cls)
        }
        known = settings.items() if isinstance(settings, dict) else ()
        return {n: v for n, v in known if v is not None and v != usual.get(n, msgspec.UNSET)}

    def configuration(
        self, target: Target, strategy: Strategy, among: Sequence[Strategy] = ()
    ) -> Configuration:
        """Make the record of a model used with a strategy; `among` are all strategies of the plan."""
        settings = target.differences
        settings |= {"seed": self.seed} if self.seed is not None else {}
        settings |= {"batch": True} if self.batch and target.endpoint not in IN_PROCESS else {}
        named = getattr(strategy, "helpers", ())
        settings |= {"helpers": {n: self.helper(n).identity for n in named}} if named else {}
        code = getattr(strategy, "identity", None)  # of the user's own
        settings |= {"strategy_code": code} if code is not None else {}
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
    """The cap on thinking that a strategy sets, else that of the plan."""
    return getattr(strategy, "thinking_tokens", None) or target.thinking_budget_tokens


def _label(target: Target, strategy: Strategy, among: Sequence[Strategy]) -> str:
    """Name a configuration for people: the model, the strategy, and what tells it from its like."""
    like = [other.params for other in among if other.name == strategy.name]
    special = [
        f"{name}={value}"
        for name, value in strategy.params.items()
        if any(other.get(name) != value for other in like)
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
    def key(self) -> Key:
        """What identifies it from run to run."""
        return self.configuration.configuration_id, self.item_id, self.trial


class Work:
    """A plan with its tasks and strategies at hand: the records that it needs and its attempts in order.

    The order is the same on every launch, and any beginning of it is balanced: trial by trial, the
    tasks' items in turn, every configuration on an item before the next item. Items follow their
    content hash, so that a beginning holds easy and hard ones.

    Attributes:
        task_sets: the tasks with their scorers.
        tasks: their records.
        configurations: each with its target and strategy.
    """

    def __init__(
        self, plan: Plan, tasks: Sequence[TaskSet], strategies: Sequence[Strategy]
    ) -> None:
        """Expand a plan."""
        self.plan, self.task_sets = plan, tuple(tasks)
        self.tasks: tuple[Task, ...] = tuple(t.task for t in tasks)
        self.configurations = [
            (plan.configuration(target, strategy, strategies), target, strategy)
            for target in plan.targets
            for strategy in strategies
        ]
        ids = self.configuration_ids
        if len(set(ids)) < len(ids):
            raise ConfigError("the plan names a model or a strategy twice")
        self.configurations = _told_apart(self.configurations)
        chosen = [
            sorted(((task.record(i), task, i) for i in task.items), key=lambda row: row[0].item_id)
            for task in tasks
        ]
        turns = itertools.zip_longest(*[rows[: plan.limit] for rows in chosen])
        self._items = [row for turn in turns for row in turn if row is not None]
        asked = Counter(record.item_id for record in self.items)
        for record in self.items:
            if asked[record.item_id] > 1:
                raise ConfigError(
                    f"the item {record.item!r} stands twice in the plan's tasks; name each task once"
                )

    @property
    def items(self) -> list[Item]:
        """The records of the items that are asked."""
        return [record for record, _, _ in self._items]

    @property
    def configuration_ids(self) -> list[str]:
        """The ids of what is compared."""
        return [c.configuration_id for c, _, _ in self.configurations]

    def __len__(self) -> int:
        """Count the attempts."""
        return self.plan.trials * len(self._items) * len(self.configurations)

    def __iter__(self) -> Iterator[Planned]:
        """Walk the attempts in order."""
        return (planned for _, planned in self.without(frozenset()))

    def without(self, known: Collection[Key]) -> Iterator[tuple[int, Planned]]:
        """Walk the attempts that are not known yet, each with its place in the order, from 1 on."""
        place, ids = 0, self.configuration_ids
        for trial in range(self.plan.trials):
            for record, task, item in self._items:
                item_id = record.item_id
                for configuration_id, how in zip(ids, self.configurations, strict=True):
                    place += 1
                    if (configuration_id, item_id, trial) not in known:
                        yield place, Planned(*how, task, item, item_id, trial)

    def count(self, known: Collection[Key]) -> Counter[str]:
        """Count the attempts that are known, by configuration."""
        item_ids, trials = [record.item_id for record, _, _ in self._items], range(self.plan.trials)
        return Counter(
            {
                c: sum((c, i, t) in known for i in item_ids for t in trials)
                for c in self.configuration_ids
            }
        )


def _told_apart(
    configurations: Sequence[tuple[Configuration, Target, Strategy]],
) -> list[tuple[Configuration, Target, Strategy]]:
    """Give every configuration a name of its own, as the store does for all that it holds."""
    names = parameters.names(parameters.named(as_dict(c)) for c, _, _ in configurations)
    return [
        (msgspec.structs.replace(c, configuration=names[c.configuration_id]), target, strategy)
        for c, target, strategy in configurations
    ]


def expand(plan: Plan, folder: Path | None = None, trusted: Collection[str] = ()) -> Work:
    """Load a plan's tasks and strategies by name; files are looked for in the plan's folder first.

    Args:
        plan: what is asked.
        folder: the plan's.
        trusted: strategies of the user's own that the user named, so that importing them is
            allowed.
    """
    from workbench.datasets import load_task
    from workbench.runner import strategies

    for given in plan.strategy_params:
        if not is_user_code(given):
            strategies.kind(given)  # a name that nobody has would be passed over in silence
    chosen = []
    for asked in plan.strategies:
        table = {"name": asked} if isinstance(asked, str) else dict(asked)
        name = table.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"a table of `strategies` needs a name: {table}")
        params = plan.strategy_params.get(name, {}) | table
        allowed = plan.allow_code or name in trusted
        chosen.append(strategies.find(name, params, allow_code=allowed, folder=folder))
    helpers = {name: plan.helper(name).identity for name in plan.helpers}
    tasks = [
        load_task(task, folder=folder, allow_code=plan.allow_code, helpers=helpers)
        for task in plan.tasks
    ]
    return Work(plan, tasks, chosen)
