"""What msgspec refuses is told in words: the setting, its value, and what may stand there."""

from typing import Annotated, Literal

import msgspec
import pytest

from workbench.decoding import describe


class Model(msgspec.Struct, forbid_unknown_fields=True):
    """A table within the table."""

    name: str
    rate: float | None = None


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Settings of each kind."""

    models: list[Model] = []
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    is_on: bool = False
    energy: Literal["auto", "off"] = "auto"
    extra: dict[str, str] = {}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"limt": 1}, "there is no setting 'limt'; did you mean 'limit'?"),
        (
            {"q": 1},
            "there is no setting 'q'; there are energy, extra, is_on, limit, models",
        ),
        ({"limit": "1M"}, "limit = '1M' must be a whole number"),
        ({"limit": 0}, "limit = 0 must be a whole number >= 1"),
        ({"is_on": "yes"}, "is_on = 'yes' must be true or false"),
        ({"models": "gpt"}, "models = 'gpt' must be a list"),
        ({"models": [{"name": "a"}, {"name": 3}]}, "models[1].name = 3 must be a text"),
        ({"models": [{"name": "a", "rate": "x"}]}, "models[0].rate = 'x' must be a number"),
        ({"models": [{"rate": 1.0}]}, "'name' is missing in models[0]"),
        ({"models": [{"name": "a", "rat": 1}]}, "there is no setting 'rat' in models[0]"),
        ({"energy": "on"}, "energy = 'on': Invalid enum value 'on'"),
        ({"limit": "x" * 500}, f"limit = '{'x' * 58}… must be a whole number"),
    ],
)
def test_a_refusal_names_the_setting_and_what_may_stand_there(raw: dict, message: str) -> None:
    """At the top and within lists and tables."""
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(raw, Settings)

    assert describe(refused.value, raw, Settings.__struct_fields__) == message


def test_a_key_with_dots_does_not_lead_astray() -> None:
    """msgspec does not say which key of a table of any keys it was."""
    raw = {"extra": {"a.b[0]": 3}}
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(raw, Settings)

    assert "must be a text" in describe(refused.value, raw, ())
