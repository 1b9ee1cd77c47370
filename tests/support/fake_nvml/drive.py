"""Plays a schedule of calls against the meters of this process, in virtual time; JSON in, JSON out.

NVML is looked for when the process starts, so whoever wants the fake one runs this with
LD_LIBRARY_PATH.
"""

import asyncio
import json
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.support.fake_nvml.virtual import VirtualTime
from workbench.records import Call
from workbench.runner.energy.meters import open_meter
from workbench.runner.energy.watch import Watch


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Run a schedule of {clock, calls: [[begin, end, ttft]], hz, quiet_s}; times from the run's
    begin."""
    clock_file = Path(asked["clock"])
    clock_file.write_bytes(struct.pack("d", 1000.0))

    def tick() -> None:
        clock_file.write_bytes(struct.pack("d", virtual.now))
        watch.sample()

    virtual = VirtualTime(tick_s=1.0 / asked.get("hz", 20.0))
    meter = open_meter(clock=virtual.clock)
    watch = Watch(
        meter, hz=None, quiet_s=asked.get("quiet_s", 5.0), clock=virtual.clock, sleep=virtual.sleep
    )

    virtual.on_tick = tick

    async def call(n: int, begin: float, end: float, ttft: float) -> Any:
        await virtual.sleep(1000.0 + begin - virtual.now)
        window = watch.begin(virtual.now)
        await virtual.sleep(1000.0 + end - virtual.now)
        watch.end(window, virtual.now)
        record = Call(ordinal=n, ttft_s=ttft, answer_start_s=ttft, e2e_s=end - begin)
        return await watch.settle([(record, [window])])

    async def run() -> Any:
        await virtual.run(watch.start())
        readings = await virtual.run(*(call(n, *row) for n, row in enumerate(asked["calls"])))
        [balances] = await virtual.run(watch.finish("run-1"))
        return readings, balances

    readings, balances = asyncio.run(run())
    return {
        "readings": [msgspec.to_builtins(r) for found in readings for r in found],
        "balances": [msgspec.to_builtins(b) for b in balances],
        "reason": watch.reason,
        "end_s": virtual.now,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
