"""Write rows by hand that the worked examples of some analyses run on: made up, not measured.

    python data/examples/make_by_hand.py [--output FOLDER]

No sample trace has energy, a listed price or a verifier's score; these rows have them, in round
numbers, so that every answer can be worked out in one's head. They are also a pattern for rows of
one's own: records in, a store, `export`. What the rows say is in the tables below, and in README.md
one folder up.
"""

import argparse
import dataclasses
import datetime as dt
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workbench.hardware import Model, Reference
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    EnergyReading,
    Item,
    Price,
    Run,
    Score,
    Task,
    Trace,
)
from workbench.store import open_store, reference

NOTE = "made by hand, not measured"
TASK = Task(
    task="made-up-forecasts",
    scorer="holds-the-truth",
    description=f"{NOTE}: a number is asked for, and an interval that holds it is right",
)
SIZES = (0.5, 1.0, 1.5, 1.0, 1.0, 1.0)  # of the items: how much is written, over the mean
INPUT_TOKENS = 1000
PREFILL_S = 2.0
IDLE_W = 100.0  # of every GPU, shared by the two requests that are always in flight
# Two runs of the same: the second draws 2 % more power than the first. Each asks every item twice,
# side by side.
RUNS = {
    "by-hand-1": (dt.datetime(2026, 1, 5, 9, tzinfo=dt.UTC), 0.99),
    "by-hand-2": (dt.datetime(2026, 1, 6, 9, tzinfo=dt.UTC), 1.01),
}
PRICES = {  # USD per million tokens: input, output
    "made-up-thinker": (1.0, 5.0),
    "made-up-terse": (2.0, 10.0),
    "made-up-large": (3.0, 15.0),
}
PARAMETERS = {"made-up-thinker": 8e9, "made-up-large": 70e9}  # the maker of `terse` says nothing


@dataclasses.dataclass(frozen=True)
class Subject:
    """What answers, and how; tokens are those of an item of size 1, mean over trials.

    Attributes:
        thinking, visible: output tokens; even trials think `less` tokens less than odd ones, and
            write as many more.
        per_s: output tokens a second of each request.
        gpus: where it runs; each draws 200 W above idle while two requests are in flight. () for an
            API.
        right: of each item's four trials, how many (the first) are right.
    """

    model: str
    precision: str | None
    thinking: int
    visible: int
    less: int
    per_s: float
    gpus: tuple[str, ...]
    right: tuple[int, ...]

    @property
    def configuration(self) -> Configuration:
        """Return its record."""
        name = f"{self.model} {self.precision}" if self.precision else self.model
        return Configuration(
            model=self.model,
            provider="by hand",
            strategy="direct",
            precision=self.precision,
            machine="made-up-server" if self.gpus else None,
            configuration=name,
        )


SUBJECTS = (
    Subject("made-up-thinker", None, 600, 200, 200, 100.0, ("gpu0",), (4, 4, 4, 3, 3, 2)),
    Subject("made-up-large", "BF16", 200, 200, 100, 50.0, ("gpu0", "gpu1"), (4, 4, 4, 4, 4, 4)),
    Subject("made-up-large", "INT4", 200, 200, 100, 100.0, ("gpu0",), (4, 4, 4, 4, 2, 2)),
    Subject("made-up-terse", None, 0, 200, 0, 100.0, (), (4, 4, 4, 2, 2, 0)),
)


def records() -> Iterator[AnyRecord]:
    """Yield all records."""
    yield TASK
    items = [
        Item(task_id=TASK.task_id, item=str(n), input=f"Made-up question {n}", target=str(100 * n))
        for n in range(1, len(SIZES) + 1)
    ]
    yield from items
    yield from (subject.configuration for subject in SUBJECTS)
    for model, (given, out) in PRICES.items():
        yield Price(
            model=model,
            sheet="by hand",
            input_usd_per_mtok=given,
            output_usd_per_mtok=out,
            note=NOTE,
        )
    for number, (run_id, (start, power)) in enumerate(RUNS.items()):
        yield Run(
            run_id=run_id,
            kind="import",
            source="by hand",
            origin=Path(__file__).name,
            status="done",
            started_at=start,
            ended_at=start + dt.timedelta(minutes=5),
            metadata=f'{{"note":"{NOTE}"}}',
        )
        for place, subject in enumerate(SUBJECTS):
            begins = start + dt.timedelta(seconds=60 * place)
            yield from _traces(subject, items, run_id, begins, power, first_trial=2 * number)


def _traces(
    subject: Subject,
    items: list[Item],
    run_id: str,
    start: dt.datetime,
    power: float,
    *,
    first_trial: int,
) -> Iterator[Trace]:
    """Ask one item after the other, two trials of it at once."""
    for place, (item, size) in enumerate(zip(items, SIZES, strict=True)):
        seconds = 0.0
        for odd in (0, 1):
            shift = int(size * subject.less / 2) * (1 if odd else -1)
            thinking, visible = (
                int(size * subject.thinking) + shift,
                int(size * subject.visible) - shift,
            )
            seconds = PREFILL_S + (thinking + visible) / subject.per_s
            trial = first_trial + odd
            right = trial < subject.right[place]
            call = Call(
                model=subject.model,
                provider="by hand",
                started_at=start,
                ttft_s=PREFILL_S,
                answer_start_s=PREFILL_S + thinking / subject.per_s,
                e2e_s=seconds,
                input_tokens=INPUT_TOKENS,
                output_tokens=thinking + visible,
                reasoning_tokens=thinking,
                tokens_source="by hand",
            )
            answer = _interval(int(item.target or 0), right=right)
            yield Trace(
                run_id=run_id,
                configuration_id=subject.configuration.configuration_id,
                task_id=TASK.task_id,
                item_id=item.item_id,
                trial=trial,
                started_at=start,
                e2e_s=seconds,
                answer=answer,
                score=float(right),
                passed=right,
                verifier_score=0.9 if right else 0.6 if odd else 0.3,
                stop_reason="stop",
                n_turns=1,
                calls=(call,),
                scores=(
                    Score(
                        scorer="holds-the-truth", score=float(right), passed=right, answer=answer
                    ),
                ),
                energy=tuple(_energy(subject, thinking, visible, power)),
            )
        start += dt.timedelta(seconds=seconds)


def _interval(truth: int, *, right: bool) -> str:
    """Answer with 20 of width: around the truth, or 10 above it."""
    low = truth - 10 if right else truth + 10
    return f"{low} to {low + 20}"


def _energy(subject: Subject, thinking: int, visible: int, power: float) -> Iterator[EnergyReading]:
    """Give a call half of its GPUs' power; of an API, guess 2 J a token, between 1 and 4."""
    if not subject.gpus:
        tokens = thinking + visible
        yield EnergyReading(
            call_ordinal=0,
            device="provider",
            method="estimated",
            energy_j=2.0 * tokens,
            low_j=1.0 * tokens,
            high_j=4.0 * tokens,
            note=NOTE,
        )
        return
    phases = {
        "prefill": PREFILL_S,
        "thinking": thinking / subject.per_s,
        "answer": visible / subject.per_s,
    }
    for device in subject.gpus:
        for phase, seconds in phases.items():
            joules = 200 / 2 * power * seconds
            yield EnergyReading(
                call_ordinal=0,
                device=device,
                phase=phase,
                method="apportioned",
                energy_j=joules,
                full_j=joules + IDLE_W / 2 * seconds,
                note=NOTE,
            )


def export(folder: Path) -> dict[str, int]:
    """Write one Parquet file a table; returns rows by table."""
    shapes = tuple(Model(model=m, n_params=int(n), source=NOTE) for m, n in PARAMETERS.items())
    with tempfile.TemporaryDirectory() as work:
        store = open_store(Path(work) / "by-hand.duckdb", create=True)
        store.ingest(records(), source="by hand")
        reference.add(store.lease(), Reference(models=shapes))
        return store.export(folder)


def main() -> None:
    """Write the files, and print the rows of README.md that list them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    folder: Path = parser.parse_args().output
    for name, rows in export(folder).items():
        file = folder / f"{name}.parquet"
        if rows:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            sys.stdout.write(
                f"| `examples/{file.name}` | {rows:,} | {len(content):,} | `{digest}` |\n"
            )


if __name__ == "__main__":
    main()
