"""A collection that sends its requests in batches."""

import asyncio

from tests.support.sums import task_set
from workbench.runner import Plan, Work, batch, collect
from workbench.runner.batch import Limits
from workbench.runner.providers import registry
from workbench.runner.strategies import get as strategy
from workbench.spool import SpoolWriter

KEY = "sk-test-0123456789abcdef"


QUICK = Limits(quiet_s=0.03, most_wait_s=2.0, poll_s=0.01, most_poll_s=0.02)


def run(
    folder,
    stub,
    endpoint,
    run_id="r1",
    *,
    n=4,
    strategies=("direct",),
    limits=QUICK,
    stop_when=None,
    **given,
):
    """Collect in batches; returns the report, and what was said at the end of batches that are
    left."""
    plan = Plan(
        **{
            "models": ("m",),
            "tasks": ("sums",),
            "strategies": strategies,
            "endpoint": endpoint,
            "base_url": stub.url,
            "provider": "acme",
            "max_tokens": 50,
            "concurrency": 50,
            "retries": 3,
            "batch": True,
        }
        | given
    )
    work = Work(plan, [task_set(n)], [strategy(s) for s in strategies])

    async def go():
        http = registry.make(endpoint, stub.url, name="acme", api_key=KEY, timeout_s=60.0)
        batches = batch.make(http, folder, limits=limits)
        with SpoolWriter(folder, run_id) as writer:
            task = asyncio.create_task(collect(plan, spool=writer, work=work, provider=batches))
            while stop_when is not None and not task.done():
                if stop_when(batches):
                    task.cancel()
                    break
                await asyncio.sleep(0.01)
            try:
                report = await task
            except asyncio.CancelledError:
                report = None
            left = batches.left_running()
            await batches.aclose()
        return report, left

    return asyncio.run(go())
