"""What servers say about their limits, and how long to wait for it."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runner.limits.buckets import Buckets, Cost, Sizes
from workbench.runner.providers import ratelimits
from workbench.runner.providers.ratelimits import RateLimit

NOW = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.UTC)


def read(**headers):
    raw = {name.replace("_", "-").encode(): str(value).encode() for name, value in headers.items()}
    return ratelimits.read(raw, NOW)


# Names and values as the providers document them, or as their replies show them.
SAID = {
    "OpenAI": (
        {
            "x_ratelimit_limit_requests": 5000,
            "x_ratelimit_remaining_requests": 4999,
            "x_ratelimit_reset_requests": "12ms",
            "x_ratelimit_limit_tokens": 160000,
            "x_ratelimit_remaining_tokens": 159976,
            "x_ratelimit_reset_tokens": "6m0s",
        },
        [
            ("requests", "requests", 4999, 5000, 0.012, None),
            ("tokens", "tokens", 159976, 160000, 360, None),
        ],
    ),
    "Groq": (
        {
            "x_ratelimit_limit_requests": 14400,
            "x_ratelimit_remaining_requests": 14370,
            "x_ratelimit_reset_requests": "2m59.56s",
            "x_ratelimit_limit_tokens": 18000,
            "x_ratelimit_remaining_tokens": 17997,
            "x_ratelimit_reset_tokens": "7.66s",
        },
        [
            ("requests", "requests", 14370, 14400, 179.56, None),
            ("tokens", "tokens", 17997, 18000, 7.66, None),
        ],
    ),
    "Anthropic": (
        {
            "anthropic_ratelimit_requests_limit": 1000,
            "anthropic_ratelimit_requests_remaining": 999,
            "anthropic_ratelimit_requests_reset": "2026-11-22T12:00:01Z",
            "anthropic_ratelimit_input_tokens_limit": 80000,
            "anthropic_ratelimit_input_tokens_remaining": 78000,
            "anthropic_ratelimit_input_tokens_reset": "2026-11-22T12:00:03Z",
            "anthropic_ratelimit_output_tokens_limit": 16000,
            "anthropic_ratelimit_output_tokens_remaining": 12000,
            "anthropic_ratelimit_output_tokens_reset": "2026-11-22T12:00:15Z",
            "anthropic_ratelimit_tokens_limit": 96000,
            "anthropic_ratelimit_tokens_remaining": 90000,
            "anthropic_ratelimit_tokens_reset": "2026-11-22T12:00:15Z",
        },
        [
            ("requests", "requests", 999, 1000, 1, None),
            ("input-tokens", "input_tokens", 78000, 80000, 3, None),
            ("output-tokens", "output_tokens", 12000, 16000, 15, None),
        ],
    ),
    "Mistral": (
        {
            "x_ratelimit_limit_req_minute": 60,
            "x_ratelimit_remaining_req_minute": 59,
            "x_ratelimit_limit_tokens_minute": 50000,
            "x_ratelimit_remaining_tokens_minute": 47196,
            "x_ratelimit_tokens_query_cost": 2804,
        },
        [
            ("req-minute", "requests", 59, 60, None, 60),
            ("tokens-minute", "tokens", 47196, 50000, None, 60),
        ],
    ),
    "Cerebras": (
        {
            "x_ratelimit_limit_requests_day": 100,
            "x_ratelimit_remaining_requests_day": 99,
            "x_ratelimit_reset_requests_day": "33011.382867",
            "x_ratelimit_limit_tokens_minute": 1000,
            "x_ratelimit_remaining_tokens_minute": 900,
            "x_ratelimit_reset_tokens_minute": "11.38",
        },
        [
            ("requests-day", "requests", 99, 100, 33011.382867, 86400),
            ("tokens-minute", "tokens", 900, 1000, 11.38, 60),
        ],
    ),
    "Together": (
        {
            "x_ratelimit_limit": 60,
            "x_ratelimit_remaining": 57,
            "x_ratelimit_reset": 1,
            "x_tokenlimit_limit": 100000,
            "x_tokenlimit_remaining": 98500,
        },
        [
            ("requests", "requests", 57, 60, 1, None),
            ("tokens", "tokens", 98500, 100000, None, None),
        ],
    ),
    "OpenRouter": (
        {
            "x_ratelimit_limit": 20,
            "x_ratelimit_remaining": 0,
            "x_ratelimit_reset": int(NOW.timestamp() * 1000) + 30_000,
        },
        [("requests", "requests", 0, 20, 30, None)],
    ),
    "Azure": (
        {"x_ratelimit_remaining_requests": 49, "x_ratelimit_remaining_tokens": 7000},
        [
            ("requests", "requests", 49, None, None, None),
            ("tokens", "tokens", 7000, None, None, None),
        ],
    ),
    "Fireworks": (
        {
            "x_ratelimit_limit_tokens_prompt": 60000,
            "x_ratelimit_remaining_tokens_prompt": 59000,
            "x_ratelimit_limit_tokens_generated": 6000,
            "x_ratelimit_remaining_tokens_generated": 5900,
        },
        [
            ("tokens-prompt", "input_tokens", 59000, 60000, None, None),
            ("tokens-generated", "output_tokens", 5900, 6000, None, None),
        ],
    ),
}


@pytest.mark.parametrize("provider", SAID)
def test_the_headers_of_each_provider_are_read(provider):
    """Durations, seconds, times since 1970 and dates become seconds from now."""
    headers, expected = SAID[provider]

    found = read(**headers)

    assert [(f.name, f.kind, f.remaining, f.limit, f.period_s) for f in found] == [
        (name, kind, left, most, period) for name, kind, left, most, _, period in expected
    ]
    assert [f.reset_s for f in found] == [
        reset if reset is None else pytest.approx(reset) for *_, reset, _ in expected
    ]


@given(
    st.dictionaries(
        st.sampled_from(
            [n.encode() for h, _ in SAID.values() for n in (k.replace("_", "-") for k in h)]
        ),
        st.binary(max_size=30),
    )
)
def test_headers_that_make_no_sense_are_no_limits(headers):
    """Whatever a server writes there, reading it raises nothing and gives usable numbers."""
    for limit in ratelimits.read(headers, NOW):
        assert limit.remaining >= 0
        assert limit.reset_s is None or limit.reset_s >= 0


def test_nobody_listens_outside_of_a_call():
    """What is told within is heard at once, and only there."""
    heard = []
    headers = {b"x-ratelimit-remaining-requests": b"3"}

    ratelimits.tell(headers, NOW)
    with ratelimits.listening(heard.extend):
        ratelimits.tell(headers, NOW)
    ratelimits.tell(headers, NOW)

    assert [limit.remaining for limit in heard] == [3]


ONE = Cost(100, 50, 50)


def test_nothing_waits_before_a_limit_is_known():
    """A server that says nothing is not slowed down."""
    buckets = Buckets()
    buckets.take(1, ONE)

    assert not buckets
    assert buckets.wait_s(ONE, 0.0) == 0.0


def test_requests_that_the_server_did_not_speak_of_yet_are_taken_off():
    """Three were left; three more went out: the next waits a second."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("requests", "requests", 3, 60, 57.0)], at_s=0.0)
    for number in (2, 3, 4):
        assert buckets.wait_s(ONE, 0.0) == 0.0
        buckets.take(number, ONE)

    assert buckets.wait_s(ONE, 0.0) == pytest.approx(
        1.0
    )  # 57 used, full again in 57 s: one a second
    assert buckets.wait_s(ONE, 0.4) == pytest.approx(0.6)
    assert buckets.scarcest(ONE, 0.0) == "requests"


def test_an_answer_speaks_of_its_own_request():
    """Once heard, it is in the server's count and no longer in ours; the other one still is."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("requests", "requests", 9, 10, 1.0)], at_s=0.0)
    buckets.take(2, ONE)
    buckets.take(3, ONE)

    buckets.update(3, [RateLimit("requests", "requests", 1, 10, 9.0)], at_s=1.0)

    assert buckets.wait_s(ONE, 1.0) == pytest.approx(1.0)
    buckets.update(2, [RateLimit("requests", "requests", 1, 10, 9.0)], at_s=1.0)
    assert buckets.wait_s(ONE, 1.0) == 0.0


def test_a_shared_bucket_reserves_all_that_may_be_written():
    """Until the server has spoken of the request; then its own count holds."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("tokens", "tokens", 1000, 6000, 50.0)], at_s=0.0)
    large = Cost(100, 20, 800)
    buckets.take(2, large)

    before = buckets.wait_s(large, 0.0)
    buckets.update(2, [RateLimit("tokens", "tokens", 980, 6000, 50.2)], at_s=0.0)

    assert before == pytest.approx(8.0)  # 900 wanted, 100 left, a hundred a second
    assert buckets.wait_s(large, 0.0) == 0.0


def test_what_is_being_written_is_taken_off_the_output_until_the_server_knows_it():
    """The answer has begun, its output is not counted yet: by its estimate, then by its count."""
    buckets = Buckets()
    told = [RateLimit("output-tokens", "output_tokens", 500, 600, 10.0)]
    buckets.update(1, told, at_s=0.0)
    buckets.take(2, Cost(0, 300, 300))
    buckets.update(2, told, at_s=0.0)
    wanted = Cost(0, 300, 300)

    writing = buckets.wait_s(wanted, 0.0)
    buckets.end(2, 450)
    written = buckets.wait_s(wanted, 0.0)
    buckets.update(3, [RateLimit("output-tokens", "output_tokens", 350, 600, 25.0)], at_s=0.0)

    assert (writing, written) == (pytest.approx(10.0), pytest.approx(10.0))  # at the reset at last
    assert buckets.wait_s(wanted, 0.0) == 0.0


def test_a_request_that_ended_unanswered_is_forgotten():
    """Refused, or broken before its answer began: the next answer will tell."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("requests", "requests", 1, 60, 59.0)], at_s=0.0)
    buckets.take(2, ONE)

    buckets.end(2, None)

    assert buckets.wait_s(ONE, 0.0) == 0.0


def test_after_the_reset_all_is_there_again():
    """A window that begins anew: nothing is left until then, and everything after."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("requests", "requests", 0, None, 30.0)], at_s=0.0)

    assert buckets.wait_s(ONE, 10.0) == pytest.approx(20.0)
    assert buckets.wait_s(ONE, 30.0) == 0.0


def test_a_request_larger_than_the_limit_waits_for_a_full_bucket_only():
    """It could never fit; whether it may go is for the server to say."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("tokens", "tokens", 500, 1000, 5.0)], at_s=0.0)

    assert buckets.wait_s(Cost(5000, 5000, 5000), 0.0) == pytest.approx(5.0)


def test_a_limit_of_nothing_is_not_waited_for():
    """A key without any allowance is refused; that is told at once."""
    buckets = Buckets()
    buckets.update(1, [RateLimit("req-minute", "requests", 0, 0, None, 60.0)], at_s=0.0)

    assert buckets.wait_s(ONE, 0.0) == 0.0


def test_the_scarcest_of_several_buckets_counts():
    """Input is plenty, output is short: the output's wait."""
    buckets = Buckets()
    limits = [
        RateLimit("input-tokens", "input_tokens", 5000, 6000, 10.0),
        RateLimit("output-tokens", "output_tokens", 0, 600, 60.0),
    ]
    buckets.update(1, limits, at_s=0.0)

    assert buckets.wait_s(ONE, 0.0) == pytest.approx(5.0)
    assert buckets.scarcest(ONE, 0.0) == "output-tokens"


def test_what_was_sent_is_forgotten_once_the_server_knows_it():
    """The books do not grow with the run."""
    buckets = Buckets()
    for number in range(1, 1001):
        buckets.update(number, [RateLimit("requests", "requests", 50, 60, 10.0)], at_s=0.0)
        buckets.take(number + 1, ONE)
        buckets.end(number, 7)

    assert len(buckets._unanswered) == len(buckets._output_estimates) == 1
    assert buckets._taken == {"requests": 1.0, "input_tokens": 100.0, "tokens": 150.0}


def test_sizes_are_guessed_until_they_are_known():
    """All it may write, then the mean of what was written; a shared bucket keeps to the most."""
    sizes = Sizes()
    first = sizes.cost(400, 1000)
    for _ in range(5):
        sizes.add(200)

    assert (first.input_tokens, first.of("tokens")) == (100, 1100)
    assert sizes.cost(400, 1000).of("output_tokens") == 200
    assert sizes.cost(400, 1000).of("tokens") == 1100
    assert sizes.cost(400, None).of("tokens") == 300
