"""The records behind the screens: models, tasks and agents in a store of a few traces."""

import datetime as dt
import hashlib
from collections.abc import Iterator

from workbench import records as r

BEGAN = dt.datetime(2026, 10, 1, 12, 0, tzinfo=dt.UTC)


MODELS = {"smol-135m": (0.5, 1.0), "gemma-270m": (0.42, 1.7)}  # skill, price factor


STRATEGIES = {"direct": (0.0, 18, None), "cot": (0.22, 140, None), "think": (0.2, 240, 166)}


TASKS = {"arithmetic": 0.15, "strings": -0.25, "logic": -0.1}


ITEMS, TRIALS = 8, 2


def chance(*parts: object) -> float:
    """A fixed number between 0 and 1 for a name."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def trace(config: r.Configuration, task: r.Task, item: r.Item, trial: int, n: int) -> r.Trace:
    """One attempt with a prompt, perhaps thinking, and an answer."""
    skill, _ = MODELS[config.model]
    bonus, tokens, thinking = STRATEGIES[config.strategy or ""]
    draw = chance(config.configuration, task.task, item.item, trial)
    passed = draw < skill + bonus + TASKS[task.task]
    output = int(tokens * (0.7 + 0.6 * draw))
    thought = int(thinking * (0.7 + 0.6 * draw)) if thinking else None
    at, e2e = BEGAN + dt.timedelta(seconds=n), 0.2 + output * 0.015
    began = 0.1 + (thought or 0) * 0.015
    call = r.Call(
        provider="local",
        model=config.model,
        started_at=at,
        ttft_s=0.1,
        answer_start_s=began,
        e2e_s=e2e,
        input_tokens=121,
        output_tokens=output,
        reasoning_tokens=thought,
        stop_reason="stop",
        billed_cost_usd=None,
    )
    said = [("system", "text", "You solve short puzzles."), ("user", "text", str(item.input))]
    if thought:
        said.append(
            ("assistant", "thinking", "First I add 4 and 5.\nThen I look at the third box.\n" * 4)
        )
    said.append(("assistant", "text", "14" if passed else "12"))
    messages = tuple(
        r.Message(
            ordinal=i,
            role=role,
            kind=kind,
            text=text,
            call_ordinal=0 if role == "assistant" else None,
        )
        for i, (role, kind, text) in enumerate(said)
    )
    return r.Trace(
        run_id="run-1",
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trial=trial,
        started_at=at,
        e2e_s=e2e,
        answer="14" if passed else "12",
        score=float(passed),
        passed=passed,
        stop_reason="stop",
        n_turns=1,
        calls=(call,),
        messages=messages,
        scores=(
            r.Score(
                scorer="exact", score=float(passed), passed=passed, explanation="14 is expected"
            ),
        ),
    )


def agent(run: str, config: r.Configuration, task: r.Task, item: r.Item, turns: int) -> r.Trace:
    """An agent of many turns: every turn thinks, calls a tool and reads its result; one tool
    fails."""
    calls, tools, messages = [], [], []
    for turn in range(turns):
        calls.append(
            r.Call(
                ordinal=turn,
                provider="local",
                model=config.model,
                ttft_s=0.2,
                answer_start_s=0.9,
                e2e_s=1.2,
                started_at=BEGAN + dt.timedelta(seconds=2 * turn),
                input_tokens=400 + turn,
                output_tokens=60,
                reasoning_tokens=40,
                stop_reason="tool_calls",
            )
        )
        fails = turn == turns // 2
        tools.append(
            r.ToolCall(
                ordinal=turn,
                tool="shell",
                call_ordinal=turn,
                arguments=f'{{"cmd": "step {turn}"}}',
                e2e_s=0.3,
                error_type="exit_1" if fails else None,
                error_message="no such file" if fails else None,
            )
        )
        texts = [
            ("assistant", "thinking", f"Turn {turn}: what is in the next file?\n" * 3),
            ("assistant", "tool_call", f'{{"cmd": "step {turn}"}}'),
            ("tool", "tool_result", "no such file" if fails else f"line {turn}\n" * 12),
        ]
        for role, kind, text in texts:
            messages.append(
                r.Message(
                    ordinal=len(messages),
                    role=role,
                    kind=kind,
                    text=text,
                    call_ordinal=turn,
                    tool_call_ordinal=None if kind == "thinking" else turn,
                )
            )
    return r.Trace(
        run_id=run,
        configuration_id=config.configuration_id,
        task_id=task.task_id,
        item_id=item.item_id,
        trial=9,
        started_at=BEGAN,
        e2e_s=1.5 * turns,
        error_type="limit",
        error_message="too many turns",
        n_turns=turns,
        calls=tuple(calls),
        tool_calls=tuple(tools),
        messages=tuple(messages),
    )


def everything(turns: int = 30) -> Iterator[r.AnyRecord]:
    """All records of the sample."""
    yield r.Run(run_id="run-1", kind="collect", source="runner", status="done", started_at=BEGAN)
    for name, (_, factor) in MODELS.items():
        yield r.Price(
            model=name,
            provider="local",
            sheet="test",
            input_usd_per_mtok=0.4 * factor,
            output_usd_per_mtok=2.0 * factor,
        )
    n, tasks = 0, [r.Task(task=name) for name in TASKS]
    configs = [
        r.Configuration(model=m, provider="local", strategy=s, configuration=f"{m} {s}")
        for m in MODELS
        for s in STRATEGIES
    ]
    yield from (*tasks, *configs)
    for task in tasks:
        for index in range(ITEMS):
            item = r.Item(
                task_id=task.task_id,
                item=f"{index:02}",
                input=f"Boxes hold {index}, 5 and …",
                target="14",
            )
            yield item
            for config in configs:
                for trial in range(TRIALS):
                    yield trace(config, task, item, trial, n := n + 1)
            if index == 0 and task.task == "logic":
                yield agent("run-1", configs[2], task, item, turns)
