"""A collection in a thread, and a server that answers when it is let."""

import asyncio
import re
import threading
import time

from tests.support.launches import make
from tests.support.runner_stub import DONE, Stub, delta, fixed, stream, usage
from workbench.runner import collect
from workbench.runner.control import protocol
from workbench.runner.control.protocol import (
    Stop,
    live_runs,
    send,
)
from workbench.spool import SpoolWriter


def until(test, timeout_s=60.0):
    """Wait until something holds, and return it."""
    due = time.monotonic() + timeout_s
    while not (found := test()):
        assert time.monotonic() < due, "it never came true"
        time.sleep(0.005)
    return found


class Server(Stub):
    """Answers a question once it is let: `open` lets all, `allow` some."""

    def __init__(self):
        super().__init__(self.answer)
        self.gate, self.allowed = threading.Event(), 0
        self.fail = set()  # numbers of items that are answered with a refusal

    def answer(self, seen):
        return self.steps(int(re.findall(r"(\d+) \+ 1", seen.body.decode())[-1]))

    def steps(self, number):
        while not self.gate.is_set() and self.allowed <= 0:
            yield 0.005
        self.allowed -= 1
        if number in self.fail:
            yield from fixed(400, b'{"error": {"message": "refused"}}')
            return
        counts = usage(prompt_tokens=20, completion_tokens=2, total_tokens=22)
        yield from stream(delta(f" {number + 1}"), delta(finish="stop"), counts, DONE)


class Launch:
    """A collection in a thread of its own."""

    def __init__(self, folder, url, run_id="r1", *, price=None, pilot=None, **settings):
        self.folder, self.run_id = folder, run_id
        self.plan, self.work = make(url, **settings)
        self.price, self.pilot = price, pilot
        self.report = self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        with SpoolWriter(self.folder, self.run_id) as writer:
            try:
                self.report = asyncio.run(
                    collect(
                        self.plan, spool=writer, work=self.work, price=self.price, pilot=self.pilot
                    )
                )
            except Exception as error:  # noqa: BLE001  # told by the test's own thread
                self.error = error

    def __enter__(self):
        self.thread.start()
        until(lambda: self.thread.is_alive() and live_runs(self.folder))
        return self

    def __exit__(self, *_):
        if self.thread.is_alive() and protocol.is_live(
            protocol.control_dir(self.folder) / self.run_id
        ):
            send(self.folder, self.run_id, Stop(now=True))
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.error is None

    def tell(self, command):
        return send(self.folder, self.run_id, command)

    @property
    def state(self):
        return protocol.state_of(self.folder, self.run_id)

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.error is None
        return self.report
