"""A question to a small model."""

from workbench.runner.attempts.session import Request

CHAT = Request(
    model="smollm2",
    messages=({"role": "user", "content": "What is the capital of France? Answer in one word."},),
    sampling={"max_tokens": 8, "temperature": 0.0},
)
