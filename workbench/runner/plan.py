"""What is to be collected: a plan, and the attempts (configuration × item × trial) that it means."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from workbench.datasets import TaskSet
from workbench.errors import ConfigError
from workbench.records import Configuration, Item, Task, content_id, json_text
from workbench.runner import templates
from workbench.runner.limits import Backoff
from workbench.runner.providers import services
from workbench.runner.session import Strategy
from workbench.scoring import TaskItem

Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Key = tuple[str, str, int]  # configuration_id, item_id, trial


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what a collection asks, and how fast.

    Attributes:
        models, tasks, strategies: names; every combination is a configuration and its items.
        strategy_params: parameters by strategy name.
        trials: repeats of every item.
        limit: at most so many items of each task; which ones depends on their content alone.
        base_url: the server, with its `/v1`; "" is the provider's own, or llama.cpp's on this machine.
        provider: its name in the price sheet; taken from the host where None.
        api_key_env: the NAME of the environment variable that holds the key; never the key. Where None, the
            usual one of the provider, at the provider's own address only.
        endpoint: chat, responses (OpenAI), messages (Anthropic), gemini, or completions for a base model,
            where `template` turns a chat into text; auto is the provider's own, else chat.
        extra_body: further fields of the request.
        seed: base of the seeds, one per item and trial; None leaves the seed to the server.
        effort: reasoning effort, in the server's words; recorded so, sent as the endpoint wants it.
        thinking_budget_tokens: most tokens of thinking, where the endpoint takes a cap.
        machine: name, in the price sheet, of the machine that the model runs on.
        precision: number format of the weights, for the record.
        timeout_s: cap of one request; `retries` more follow if it failed for a passing reason.
    """

    models: Names
    tasks: Names
    strategies: Names = ("direct",)
    strategy_params: dict[str, dict[str, Any]] = {}
    trials: Positive = 1
    limit: Positive | None = None
    base_url: str = ""
    provider: str | None = None
    api_key_env: str | None = None
    endpoint: Literal["auto", "chat", "completions", "responses", "messages", "gemini"] = "auto"
    template: str = "question_answer"
    extra_body: dict[str, Any] = {}
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    max_tokens: Positive | None = None
    seed: int | None = None
    effort: str | None = None
    thinking_budget_tokens: Positive | None = None
    machine: str | None = None
    precision: str | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8
    budget_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 5

    def __post_init__(self) -> None:
        """Fill in what the provider's name tells; refuse what cannot work, or would record a secret."""
        self._fill()
        url = urlsplit(self.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ConfigError(f"base_url {self.base_url!r} is no http(s) address")
        if url.username or url.password or url.query or url.fragment:
            raise ConfigError(
                "base_url holds a user, a password or a query; put the key into an environment variable"
                " and its name into api_key_env"
            )
        if self.api_key_env is not None and not self.api_key_env.isidentifier():
            raise ConfigError(
                "api_key_env is not the name of an environment variable; give the name, never the key"
            )
        if self.endpoint == "completions":
            templates.get(self.template)
        if self.endpoint == "messages" and self.max_tokens is None:
            raise ConfigError("the endpoint messages needs a cap on the answers; give max_tokens")

    def _fill(self) -> None:
        """Take address, endpoint and name of the key's variable from what is known of the provider."""
        service = services.SERVICES.get(self.provider or services.name_of(self.base_url))
        if self.endpoint == "auto":
            endpoint = service.endpoint if service is not None else "chat"
            msgspec.structs.force_setattr(self, "endpoint", endpoint)
        if not self.base_url:
            known = service.base_url(self.endpoint) if service is not None else services.LOCAL_URL
            if known is None:
                raise ConfigError(f"no address of {self.provider} is known for {self.endpoint}; give base_url")  # fmt: skip
            msgspec.structs.force_setattr(self, "base_url", known)
        at_home = services.is_at_home(self.provider_name, self.base_url)
        if self.api_key_env is None and service is not None and at_home:
            msgspec.structs.force_setattr(self, "api_key_env", service.api_key_env)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Build a plan from TOML or flags; ConfigError names the setting that is wrong."""
        try:
            return msgspec.convert(dict(settings), cls)
        except msgspec.ValidationError as error:
            raise ConfigError(f"the plan is not usable: {error}") from error

    @property
    def provider_name(self) -> str:
        """The provider's name in records and price sheets."""
        return self.provider or services.name_of(self.base_url)

    @property
    def backoff(self) -> Backoff:
        """The waits between tries."""
        return Backoff(retries=self.retries)

    def api_key(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """Read the key; ConfigError names the variable if it is not set."""
        if self.api_key_env is None:
            return None
        key = environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {self.api_key_env} is not set; it should hold the key for"
                f" {self.provider_name}"
            )
        return key

    def as_json(self) -> str:
        """Write the plan for the run's record."""
        return msgspec.json.encode(self, order="deterministic").decode()

    def configuration(self, model: str, strategy: Strategy) -> Configuration:
        """Make the record of a model used with a strategy."""
        settings: dict[str, Any] = {"endpoint": self.endpoint} if self.endpoint != "chat" else {}
        if self.endpoint == "completions":
            settings["template"] = self.template
        settings |= {"extra_body": self.extra_body} if self.extra_body else {}
        settings |= {"seed": self.seed} if self.seed is not None else {}
        return Configuration(
            model=model, provider=self.provider_name, strategy=strategy.name,
            strategy_params=json_text(dict(strategy.params)) if strategy.params else None,
            effort=self.effort, thinking_budget_tokens=self.thinking_budget_tokens, temperature=self.temperature, top_p=self.top_p,
            max_tokens=self.max_tokens, precision=self.precision, machine=self.machine,
            settings=json_text(settings) if settings else None,
        )  # fmt: skip

    def sampling(self, item_id: str, trial: int) -> dict[str, Any]:
        """Return the settings of one attempt's requests, in OpenAI's names; its seed is its own."""
        found = {
            "temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens,
            "reasoning_effort": self.effort, "thinking_budget_tokens": self.thinking_budget_tokens, "seed": seed_of(self.seed, item_id, trial),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


def seed_of(base: int | None, item_id: str, trial: int) -> int | None:
    """Derive the seed of an item's trial (31 bits), the same for all configurations."""
    return None if base is None else int(content_id(base, item_id, trial)[:8], 16) & 0x7FFFFFFF


class Planned(NamedTuple):
    """One attempt to be made."""

    configuration: Configuration
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

    The order is the same on every launch, and any beginning of it is balanced: trial by trial, the tasks'
    items in turn, every configuration on an item before the next item. Items follow their content
    hash, so that a beginning holds easy and hard ones.
    """

    def __init__(
        self, plan: Plan, tasks: Sequence[TaskSet], strategies: Sequence[Strategy]
    ) -> None:
        """Expand a plan."""
        self.plan = plan
        self.tasks: tuple[Task, ...] = tuple(t.task for t in tasks)
        self.configurations = [
            (plan.configuration(model, strategy), strategy)
            for model in plan.models
            for strategy in strategies
        ]
        ids = [c.configuration_id for c, _ in self.configurations]
        if len(set(ids)) < len(ids):
            raise ConfigError("the plan names a model or a strategy twice")
        chosen = [
            sorted(((task.record(i), task, i) for i in task.items), key=lambda row: row[0].item_id)
            for task in tasks
        ]
        turns = itertools.zip_longest(*[rows[: plan.limit] for rows in chosen])
        self._items = [row for turn in turns for row in turn if row is not None]

    @property
    def items(self) -> list[Item]:
        """The records of the items that are asked."""
        return [record for record, _, _ in self._items]

    @property
    def configuration_ids(self) -> list[str]:
        """The ids of what is compared."""
        return [c.configuration_id for c, _ in self.configurations]

    def __len__(self) -> int:
        """Count the attempts."""
        return self.plan.trials * len(self._items) * len(self.configurations)

    def __iter__(self) -> Iterator[Planned]:
        """Walk the attempts in order."""
        for trial in range(self.plan.trials):
            for record, task, item in self._items:
                for configuration, strategy in self.configurations:
                    yield Planned(configuration, strategy, task, item, record.item_id, trial)


def expand(plan: Plan) -> Work:
    """Load a plan's tasks and strategies by name."""
    from workbench.datasets import load_task
    from workbench.runner import strategies

    chosen = [strategies.get(s, **plan.strategy_params.get(s, {})) for s in plan.strategies]
    return Work(plan, [load_task(t) for t in plan.tasks], chosen)
