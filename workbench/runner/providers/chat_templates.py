"""Chat templates for base models: each turns a chat into a prompt text and its stop words."""

from collections.abc import Sequence

from workbench.errors import ConfigError
from workbench.runner.providers.protocol import ChatMessage, Render


def question_answer(messages: Sequence[ChatMessage]) -> tuple[str, tuple[str, ...]]:
    """Write `Question:` and the assistant's words below it, which the model continues."""
    blocks: list[str] = []
    for message in messages:
        text = str(message["content"]).strip()
        if message["role"] == "system":
            blocks.append(text)
        elif message["role"] == "assistant" and blocks:
            blocks[-1] += text
        else:
            blocks.append(f"Question: {text}\n")
    return "\n\n".join(blocks), ("\nQuestion:",)


def plain(messages: Sequence[ChatMessage]) -> tuple[str, tuple[str, ...]]:
    """Write the messages' texts as they are, a blank line between them."""
    return "\n\n".join(str(m["content"]) for m in messages), ()


TEMPLATES: dict[str, Render] = {"question_answer": question_answer, "plain": plain}


def get(name: str) -> Render:
    """Find a template by name."""
    if name not in TEMPLATES:
        raise ConfigError(
            f"there is no template {name!r}; there are {', '.join(sorted(TEMPLATES))}"
        )
    return TEMPLATES[name]
