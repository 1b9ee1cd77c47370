"""Bad items fail alone; a wrong configuration is stopped soon."""

import pytest

from workbench.errors import ProviderRejected, ProviderUnavailable
from workbench.runner.limits import Breaker

TOO_LONG = ProviderRejected(
    "the server answered 400: This model's maximum context length is 8192 tokens,"
    " however you requested 9120",
    kind="http_400",
)
FILTERED = ProviderRejected(
    "the server answered 400: The response was filtered due to the prompt triggering the content"
    " management policy",
    kind="http_400",
)
KEY = ProviderRejected("the server answered 401: Incorrect API key provided", kind="http_401")
MODEL = ProviderRejected("the server answered 404: no such route", kind="http_404")
PARAMETER = ProviderRejected(
    "the server answered 400: Unsupported parameter: 'max_tokens' is not supported with this model",
    kind="http_400",
)
VAGUE = ProviderRejected("the server answered 400: Bad Request", kind="http_400")
DOWN = ProviderUnavailable("no answer in time", kind="timeout")
BROKEN = ProviderUnavailable("the server answered 500: oh", kind="http_500")


def stops_after(errors, passing=25):
    """How many items ended before the configuration was stopped; None for never."""
    breaker = Breaker(passing)
    for n, error in enumerate(errors, 1):
        if breaker.note(error) is not None:
            return n
    return None


@pytest.mark.parametrize("error", [TOO_LONG, FILTERED, VAGUE], ids=["long", "filtered", "vague"])
@pytest.mark.parametrize("place", [0, 1, 500, 995])
def test_five_bad_items_in_a_row_among_a_thousand_stop_nothing(error, place):
    """Wherever they stand, even before anything has passed."""
    assert stops_after([None] * place + [error] * 5 + [None] * (995 - place)) is None


@pytest.mark.parametrize("error", [KEY, MODEL, PARAMETER], ids=["key", "model", "parameter"])
@pytest.mark.parametrize("passed", [0, 100])
def test_a_wrong_configuration_is_stopped_after_five(error, passed):
    """The key, the model or a parameter is wrong for every item; also where it was right before."""
    assert stops_after([None] * passed + [error] * 50) == passed + 5


def test_a_refusal_that_does_not_tell_why_stops_where_nothing_passes():
    """Ten in a row and none ever passed; or a hundred where some did."""
    assert stops_after([VAGUE] * 500) == 10
    assert stops_after([None] + [VAGUE] * 500) == 101


def test_a_task_too_long_for_the_model_ends_at_a_hundred():
    """All items are too long: that is known without asking each of ten thousand."""
    assert stops_after([TOO_LONG] * 10_000) == 100
    assert stops_after([None] + [TOO_LONG] * 10_000) is None


def test_a_server_that_is_away_ends_it_whatever_the_words():
    """Timeouts and 500s in turn are one trouble; an answer between begins anew."""
    assert stops_after([DOWN, BROKEN] * 50, passing=21) == 21
    assert stops_after(([DOWN] * 20 + [None]) * 50, passing=21) is None


def test_refusals_of_other_kinds_do_not_add_up():
    """Four bad keys, one item too long, four bad keys: no five in a row."""
    assert stops_after([KEY] * 4 + [TOO_LONG] + [KEY] * 4 + [None]) is None
