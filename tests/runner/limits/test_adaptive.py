"""How many requests at once: doubling, then steps; halved once per window; never beyond the cap."""

from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.runner.limits.adaptive import Window


def one_round(window, n=None, latency_s=1.0, **options):
    """Send as many as the window allows and answer them all."""
    numbers = [window.send() for _ in range(n or int(window.limit))]
    for number in numbers:
        window.answered(number, latency_s, full=True, **options)
    return int(window.limit)


def test_the_beginning_doubles_per_round():
    """Slow start (Jacobson, 1988): 4, 8, 16, 32, and the cap."""
    window = Window(40, start=4)

    assert [one_round(window) for _ in range(4)] == [8, 16, 32, 40]
    assert window.why == "at the plan's cap"


def test_without_a_start_it_begins_at_the_cap():
    """A server of one's own is asked with all that the plan allows."""
    assert Window(64).limit == 64


def test_an_overload_halves_once_per_window():
    """Thirty-two requests of one window are refused: 32 → 16; the next window's refusal: 8."""
    window = Window(64, start=32)
    numbers = [window.send() for _ in range(32)]

    cuts = [window.overloaded(n, "http_429") for n in numbers]
    after_one = window.limit
    window.overloaded(window.send(), "http_429")

    assert cuts.count(True) == 1
    assert (after_one, window.limit) == (16, 8)
    assert window.why == "halved after http_429"


def test_after_a_storm_it_returns_fast_to_half_and_then_by_steps():
    """64 falls to 1; back to 32 it doubles per round, from there on it adds a twentieth or one."""
    window = Window(64)
    for _ in range(6):
        window.overloaded(window.send(), "http_529")
    fallen = window.limit

    rounds = [one_round(window) for _ in range(6)]

    assert fallen == 1
    assert rounds[:5] == [2, 4, 8, 16, 32]
    assert 33 <= rounds[5] <= 34


def test_it_does_not_grow_without_need():
    """Where nothing waits, an answer proves nothing about more."""
    window = Window(64, start=4)
    for _ in range(50):
        window.answered(window.send(), 1.0, full=False)

    assert window.limit == 4


def test_slow_first_tokens_hold_the_growth_and_fade():
    """Five times the best round: no growth; the same for long becomes the new normal."""
    window = Window(1000, start=4)
    one_round(window, latency_s=0.5)
    one_round(window, latency_s=2.5)
    before = window.limit

    one_round(window, latency_s=2.5)
    held, why = window.limit, window.why
    for _ in range(10):
        one_round(window, latency_s=2.5)

    assert held == before
    assert "first token takes 2.5 s" in why
    assert window.limit > before


def test_a_server_of_ones_own_may_take_its_time():
    """Begun at the cap, after an overload it comes back however slow the answers are."""
    window = Window(8)
    window.overloaded(window.send(), "http_503")
    for seconds in (0.1, 1.0, 5.0, 20.0, 60.0):
        one_round(window, latency_s=seconds)

    assert window.limit == 8


def test_isolated_troubles_do_not_cut_and_many_do():
    """One answer in twenty times out: it grows all the same. Nothing answers: it is halved."""
    window = Window(64, start=8)
    for n in range(2000):
        number = window.send()
        if n % 20:
            window.answered(number, 1.0, full=True)
        else:
            window.troubled(number, "timeout")
    grown = window.limit

    cuts = [window.troubled(window.send(), "timeout") for _ in range(12)]

    assert grown == 64
    assert cuts.count(True) == 1
    assert window.limit == 32


def test_a_resized_window_keeps_to_the_new_cap():
    """Down at once; up again where it was full."""
    window = Window(32)

    window.resize(8)
    small = window.limit
    window.resize(100)

    assert (small, window.limit) == (8, 100)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 100),
    st.none() | st.integers(1, 200),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.floats(0, 100)), max_size=200),
)
def test_whatever_happens_it_stays_between_one_and_the_cap(cap, start, events):
    """Answers, overloads and troubles in any order, for requests new and old."""
    window = Window(cap, start=start)
    for what, age, seconds in events:
        number = max(window.send() - age, 1)
        if what == 0:
            window.answered(number, seconds, full=True)
        elif what == 1:
            window.overloaded(number, "http_429")
        else:
            window.troubled(number, "timeout")

        assert 1 <= window.limit <= cap
