"""The few-shot chat that strategies begin with: the task's prompt, worked examples, question."""

from collections.abc import Callable

from workbench.datasets import Example, TaskItem, TaskSet

Turn = dict[str, str]


def opening(
    task: TaskSet,
    item: TaskItem,
    *,
    shots: int,
    instruction: str,
    answer: Callable[[Example], str],
) -> list[Turn]:
    """Write the chat up to the question.

    Args:
        task: whose prompt and examples are shown.
        item: whose question is asked.
        shots: how many of the task's examples come before it, at most.
        instruction: how to answer; follows the task's prompt.
        answer: what the model would have written for an example.
    """
    chat = [{"role": "system", "content": f"{task.prompt} {instruction}"}]
    for example in task.examples[:shots]:
        chat.append({"role": "user", "content": example.question})
        chat.append({"role": "assistant", "content": answer(example)})
    chat.append({"role": "user", "content": item.question})
    return chat
