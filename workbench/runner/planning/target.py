"""The target of a plan: one model with its address, endpoint and settings."""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import msgspec

from workbench import plugins
from workbench.decoding import describe
from workbench.errors import ConfigError, WorkbenchError
from workbench.external_code import ExternalCode, is_external, locate
from workbench.records import content_id
from workbench.runner.providers import chat_templates, services

Positive = Annotated[int, msgspec.Meta(ge=1)]
_SHIPPED = (
    "chat",
    "completions",
    "responses",
    "messages",
    "gemini",
    "local",
    "local_completions",
    "replay",
)
_PLAIN_KEYS = "WORKBENCH_ALLOW_HTTP_KEYS"  # in the environment, as a plan may be a stranger's
LOCAL = frozenset({"local", "local_completions"})
IN_PROCESS = LOCAL | {"replay"}  # endpoints whose requests do not leave the process
_COMPLETIONS = frozenset({"completions", "local_completions"})
# fields of a model's address: a model's table with one of them takes none of them from its plan
_PLACE = (
    "provider",
    "base_url",
    "endpoint",
    "api_key_env",
    "extra_body",
    "template",
    "machine",
    "recording",
)


_OWN = ", and module:Class or file.py:Class for one of your own"


def endpoint_names() -> tuple[str, ...]:
    """List the endpoints that ship."""
    return _SHIPPED


def check_endpoint(name: str) -> None:
    """Check that an endpoint ships, is a plug-in's, or names code of the user's.

    Raises:
        ConfigError: there is none; the nearest name is offered.
    """
    is_known = name in {"auto", *_SHIPPED} or is_external(name)
    if not is_known and plugins.find("provider", name) is None:
        hint = plugins.hint("provider", name, _SHIPPED, own=_OWN)
        raise ConfigError(f"no endpoint is called {name!r}; {hint}")


def own_provider(
    name: str, folders: Sequence[Path] = (), *, is_typed: bool = False
) -> ExternalCode | None:
    """Locate the code of a provider of the user's; None where none has that name.

    Raises:
        ConfigError: there is no such file or module, or the plug-in cannot be used.
    """
    if name in {"auto", *_SHIPPED}:
        return None
    if is_external(name):
        return locate("provider", name, folders, is_typed=is_typed)
    plugin = plugins.find("provider", name)
    return None if plugin is None else plugin.code()


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that a plan gives for all its models, and a model's table for itself.

    Attributes:
        base_url: the server, with its `/v1`; "" is the provider's own, or llama.cpp's on this
            machine.
        provider: its name in the price sheet; taken from the host where None.
        api_key_env: the NAME of the environment variable that holds the key; never the key. Where
            None, the usual one of the provider, at the provider's own address only.
        endpoint: chat, responses (OpenAI), messages (Anthropic), gemini, completions for a base
            model (`template` turns a chat into text), local (torch in this process;
            local_completions for a base model), replay (recorded traces); auto is the provider's
            own, else chat. The name of a plug-in, `module:Class` or `file.py:Class` is a provider
            of the user's, which may do without `base_url`.
        extra_body: further fields of the request.
        effort: reasoning effort in the server's words, as recorded; sent in the endpoint's form.
        thinking_budget_tokens: most tokens of thinking, where the endpoint takes a cap.
        machine: name, in the price sheet, of the machine that the model runs on.
        precision: number format of the weights, for the record; a local model is loaded in it.
            None: the format that a local model is loaded in is recorded.
        device: device of a local model: auto, cpu, cuda, mps.
        recording: a store, or a folder of exported traces, from which replay answers.
        concurrency: concurrent calls.
        timeout_s: time limit of one request in seconds.
    """

    base_url: str = ""
    provider: str | None = None
    api_key_env: str | None = None
    endpoint: str = "auto"
    template: str = "question_answer"
    extra_body: dict[str, Any] = {}
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    max_tokens: Positive | None = None
    effort: str | None = None
    thinking_budget_tokens: Positive | None = None
    machine: str | None = None
    precision: str | None = None
    device: str = "auto"
    recording: str | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0

    def __post_init__(self) -> None:
        """Fill in defaults of the provider; refuse settings that cannot work or hold a secret."""
        check_endpoint(self.endpoint)
        self._fill()
        if self.is_base_model:
            chat_templates.get(self.template)
        if self.endpoint == "messages" and self.max_tokens is None:
            raise ConfigError("the endpoint messages needs a cap on the answers; give max_tokens")
        if self.endpoint == "replay" and self.recording is None:
            raise ConfigError(
                "the endpoint replay needs a recording: a store or a folder of traces"
            )
        if self.api_key_env is not None and not self.api_key_env.isidentifier():
            raise ConfigError(
                "api_key_env is not the name of an environment variable; give the name, never the"
                " key"
            )
        if self.endpoint not in IN_PROCESS and not (self.is_own and not self.base_url):
            self._check_address()

    def _check_address(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            shown = url._replace(netloc=url.hostname or "", query="", fragment="").geturl()
            raise ConfigError(f"base_url {shown!r} is not an http(s) address")
        if url.username or url.password or url.query or url.fragment:
            raise ConfigError(
                "base_url holds a user, a password or a query; put the key into an environment"
                " variable and its name into api_key_env"
            )

    def _fill(self) -> None:
        """Fill in address, endpoint and the key's variable from the list of known services."""
        if self.endpoint in IN_PROCESS:
            return
        service = services.SERVICES.get(self.provider or services.name_of(self.base_url))
        if self.endpoint == "auto":
            endpoint = service.endpoint if service is not None else "chat"
            msgspec.structs.force_setattr(self, "endpoint", endpoint)
        if not self.base_url and not self.is_own:
            known = service.base_url(self.endpoint) if service is not None else services.LOCAL_URL
            if known is None:
                raise ConfigError(
                    f"no address of {self.provider} is known for {self.endpoint}; give base_url"
                )
            msgspec.structs.force_setattr(self, "base_url", known)
        at_home = services.is_at_home(self.provider_name, self.base_url)
        if self.api_key_env is None and service is not None and at_home:
            msgspec.structs.force_setattr(self, "api_key_env", service.api_key_env)

    @property
    def provider_name(self) -> str:
        """The provider's name in records and price sheets."""
        if self.provider is None and self.endpoint in IN_PROCESS:
            return "local" if self.endpoint in LOCAL else self.endpoint
        if self.provider is None and not self.base_url:
            return self.endpoint.rpartition(":")[2]
        return self.provider or services.name_of(self.base_url)

    @property
    def is_own(self) -> bool:
        """Whether code of the user's is the provider."""
        return self.endpoint not in {"auto", *_SHIPPED}

    @property
    def address(self) -> str:
        """Where its requests go; the endpoint's name, where code of the user's knows the place."""
        return self.base_url or self.endpoint

    @property
    def is_base_model(self) -> bool:
        """Whether it is a base model, which continues a text."""
        return self.endpoint in _COMPLETIONS

    @property
    def is_on_this_host(self) -> bool:
        """Whether the model runs on this machine, so that its energy can be measured here."""
        host = urlsplit(self.base_url).hostname or ""
        return self.endpoint in LOCAL or (self.endpoint != "replay" and _is_loopback(host))

    def _is_private(self) -> bool:
        """Whether requests to the address are encrypted or stay on this machine."""
        url = urlsplit(self.base_url)
        is_chosen_by_code = self.is_own and not self.base_url
        return is_chosen_by_code or url.scheme == "https" or _is_loopback(url.hostname or "")

    def api_key(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """Read the key; ConfigError names the variable if it is not set."""
        if self.api_key_env is None:
            return None
        key = environ.get(self.api_key_env, "").strip()
        if key and environ.get(_PLAIN_KEYS) != "1" and not self._is_private():
            raise ConfigError(
                f"{self.base_url} is plain http to another machine, so the key could be read on the"
                f" network; give an https address, or set {_PLAIN_KEYS}=1 if you trust the network"
            )
        if not key:
            # a key can look like a name (gsk_…, hf_…): only upper-case names are shown
            is_name = self.api_key_env.isupper()
            named = self.api_key_env if is_name else "that api_key_env names (shown if upper case)"
            raise ConfigError(
                f"the environment variable {named} is not set; it should hold the key for"
                f" {self.provider_name}"
            )
        return key


def _name(table: Mapping[str, Any]) -> str:
    return f"the model {table.get('model', table)!r} of the plan"


class Target(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model with its settings."""

    model: Annotated[str, msgspec.Meta(min_length=1)]

    @classmethod
    def of(cls, settings: Settings, model: str | Mapping[str, Any]) -> Self:
        """Resolve a model's name, or its table of settings, with the plan's settings."""
        table = {"model": model} if isinstance(model, str) else dict(model)
        inherited = {f: getattr(settings, f) for f in Settings.__struct_fields__}
        if any(name in table for name in _PLACE):
            inherited = {name: value for name, value in inherited.items() if name not in _PLACE}
        try:
            return msgspec.convert(inherited | table, cls)
        except msgspec.ValidationError as error:
            why = describe(error, inherited | table, cls.__struct_fields__)
            raise ConfigError(f"{_name(table)}: {why}") from error
        except ConfigError as error:
            raise ConfigError(f"{_name(table)}: {error}") from error

    @property
    def place_id(self) -> str:
        """Id of its connection; targets that differ in sampling only share one."""
        sampling = {"temperature", "top_p", "max_tokens", "effort", "thinking_budget_tokens"}
        fields = [f for f in self.__struct_fields__ if f not in sampling]
        if self.endpoint not in IN_PROCESS:
            fields.remove("model")
        return content_id(*[getattr(self, f) for f in fields])

    @property
    def weights(self) -> str | None:
        """The number format of the weights, given or as a local model will be loaded."""
        if self.endpoint not in LOCAL:
            return self.precision
        from workbench.runner.local import loading

        try:
            loading.require()
            return loading.precision_of(self.model, self.device, self.precision or "auto")
        except WorkbenchError:  # the connection will raise it with the reason
            return self.precision

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings of its requests, in OpenAI's names."""
        values = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "reasoning_effort": self.effort,
            "thinking_budget_tokens": self.thinking_budget_tokens,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def differences(self) -> dict[str, Any]:
        """Its settings that a configuration records beside its columns."""
        settings: dict[str, Any] = {"endpoint": self.endpoint} if self.endpoint != "chat" else {}
        if self.is_base_model:
            settings["template"] = self.template
        return settings | ({"extra_body": self.extra_body} if self.extra_body else {})

    @property
    def identity(self) -> dict[str, Any]:
        """Its settings as a helper, which are part of a configuration's identity."""
        model = {"model": self.model, "provider": self.provider_name, "precision": self.weights}
        return {
            n: v for n, v in (model | self.sampling | self.differences).items() if v is not None
        }


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine: "localhost" or a loopback address, by no other name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
