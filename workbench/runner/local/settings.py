"""Settings of a request to a local model, read and checked; unknown ones are refused."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from workbench.errors import ProviderRejected

_ALIASES = {"max_completion_tokens": "max_tokens", "max_new_tokens": "max_tokens"}
_OWN = ("temperature", "top_p", "top_k", "min_p")  # what a model's generation_config may suggest

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the tokens of one sequence are chosen, and when it ends.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: smallest set of tokens with this much probability (Holtzman et al. 2020, arXiv
            1904.09751).
        top_k: this many likeliest tokens; 0 is all.
        min_p: tokens with at least this part of the likeliest one's probability (arXiv 2407.01082).
        seed: of the sequence's own randomness; the same seed gives the same text.
        max_tokens: most output tokens, thinking included; None is as many as the context holds.
        stop: texts that end the visible answer, and are left out of it.
        thinking_budget_tokens: most tokens between the thinking tags; the closing tag is then
            written.
        reasoning_effort: handed to chat templates that know it.
        ignore_eos: go on past the end token, for measurements of equal length.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    min_p: Share = 0.0
    seed: int = 0
    max_tokens: Count | None = None
    stop: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    thinking_budget_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    reasoning_effort: str | None = None
    ignore_eos: bool = False


def read(
    requested: Mapping[str, Any], suggested: Mapping[str, Any], new_seed: Callable[[], int]
) -> Sampling:
    """Read the settings of a request.

    Args:
        requested: in OpenAI's names, with `top_k` and `min_p` beside; None counts as absent.
        suggested: the model's generation_config, for what is not asked.
        new_seed: called where no seed is asked.

    Raises:
        ProviderRejected: a setting is unknown or out of bounds; the message names it.
    """
    fields = {n: v for n, v in suggested.items() if n in _OWN and v is not None}
    for name, value in requested.items():
        if value is not None:
            fields[_ALIASES.get(name, name)] = value
    if isinstance(fields.get("stop"), str):
        fields["stop"] = [fields["stop"]]
    if "seed" not in fields:
        fields["seed"] = new_seed()
    try:
        return msgspec.convert(fields, Sampling)
    except msgspec.ValidationError as error:
        known = ", ".join(Sampling.__struct_fields__)
        raise ProviderRejected(
            f"a local model cannot be asked so: {error}; it knows {known}", kind="bad_request"
        ) from error
