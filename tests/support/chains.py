"""A strategy of several calls, and a server that fails where it is told to."""

import asyncio

from workbench.errors import ProviderUnavailable
from workbench.records import Call
from workbench.runner.attempts.session import Outcome, Reply


class Killed(BaseException):
    """The end of a run, from outside."""


class Chain:
    """A strategy of so many calls, one after the other, each with a question of its own."""

    name, params = "chain", {}

    def __init__(self, n=5, ask="part {n}"):
        self.most_calls, self.ask = n, ask

    async def run(self, session, item):
        """Ask part after part."""
        for n in range(self.most_calls):
            content = f"{item.input} {self.ask.format(n=n)}"
            reply = await session.generate([{"role": "user", "content": content}])
        return Outcome(reply.text)


class Server:
    """Answers 9 tokens in and 4 out, and fails where it is told to; counts what it was paid for."""

    name = "stub"

    def __init__(self, fails="", kind="http_503"):
        self.fails, self.kind, self.answered = fails, kind, []

    async def generate(self, request, on_chunk=None):
        """Answer, or fail where the question ends as it was told."""
        asked = request.messages[-1]["content"]
        await asyncio.sleep(0)
        if self.fails and asked.endswith(self.fails):
            raise ProviderUnavailable("no answer today", kind=self.kind)
        self.answered.append(asked)
        call = Call(provider="stub", model="m", input_tokens=9, output_tokens=4)
        return Reply(text="Answer: 1", stop_reason="stop", call=call)

    async def count_tokens(self, text):
        """Count nothing."""

    async def aclose(self):
        """Hold nothing."""
