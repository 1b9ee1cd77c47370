"""The providers' formats: replies as each service streams them."""

import json
from typing import NamedTuple

from tests.support.runner_stub import DONE, data, delta, usage
from workbench.runner.providers import registry

KEY = "sk-test-0123456789abcdef"


SAID = {"input": 100, "read": 60, "output": 30, "thinking": 20}  # the same counts in every format


class Tool(NamedTuple):
    name: str
    pieces: tuple[str, ...]


def event(kind: str, **fields) -> bytes:
    """An event with its type in both places, as OpenAI and Anthropic send it."""
    return b"event: " + kind.encode() + b"\n" + data({"type": kind, **fields})


class ChatFormat:
    endpoint, path, key_header = "chat", "/v1/chat/completions", "authorization"

    def text(self, text):
        return [delta(text)]

    def thought(self, text):
        return [delta(reasoning_content=text)]

    def tool(self, place, tool):
        first = [
            {"index": place, "id": f"c{place}", "function": {"name": tool.name, "arguments": ""}}
        ]
        more = [[{"index": place, "function": {"arguments": p}}] for p in tool.pieces]
        return [delta(tool_calls=t) for t in (first, *more)]

    def begin(self):
        return [delta(role="assistant", content="")]

    def end(self, reason="stop", counts=SAID):
        word = {"cap": "length", "tools": "tool_calls", "refused": "content_filter"}.get(
            reason, reason
        )
        counted = counts and [
            usage(
                prompt_tokens=counts["input"],
                completion_tokens=counts["output"],
                prompt_tokens_details={"cached_tokens": counts["read"]},
                completion_tokens_details={"reasoning_tokens": counts["thinking"]},
            )
        ]
        return [delta(finish=word), *(counted or []), DONE]

    def failed(self, message, status):
        return data({"error": {"message": message, "code": status}})


class ResponsesFormat:
    endpoint, path, key_header = "responses", "/v1/responses", "authorization"

    def text(self, text):
        return [event("response.output_text.delta", item_id="m", delta=text)]

    def thought(self, text):
        return [event("response.reasoning_summary_text.delta", item_id="r", delta=text)]

    def tool(self, place, tool):
        item = {
            "type": "function_call",
            "id": f"f{place}",
            "call_id": f"c{place}",
            "name": tool.name,
            "arguments": "",
        }
        pieces = [
            event("response.function_call_arguments.delta", item_id=f"f{place}", delta=p)
            for p in tool.pieces
        ]
        done = {**item, "arguments": "".join(tool.pieces)}
        return [
            event("response.output_item.added", item=item),
            *pieces,
            event("response.output_item.done", item=done),
        ]

    def begin(self):
        return [
            event(
                "response.created",
                response={"id": "resp_1", "model": "stub-1", "status": "in_progress"},
            )
        ]

    def end(self, reason="stop", counts=SAID):
        cut = {"cap": "max_output_tokens", "refused": "content_filter"}.get(reason)
        body = {
            "id": "resp_1",
            "model": "stub-1",
            "service_tier": "flex",
            "status": "incomplete" if cut else "completed",
            "incomplete_details": cut and {"reason": cut},
        }
        if counts:
            body["usage"] = {
                "input_tokens": counts["input"],
                "input_tokens_details": {"cached_tokens": counts["read"]},
                "output_tokens": counts["output"],
                "output_tokens_details": {"reasoning_tokens": counts["thinking"]},
            }
        return [event(f"response.{body['status']}", response=body)]

    def failed(self, message, status):
        word = {429: "rate_limit_exceeded", 500: "server_error"}[status]
        return event("error", code=word, message=message)


class MessagesFormat:
    endpoint, path, key_header = "messages", "/v1/messages", "x-api-key"

    def text(self, text):
        return [event("content_block_delta", index=1, delta={"type": "text_delta", "text": text})]

    def thought(self, text):
        return [
            event(
                "content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": text}
            )
        ]

    def tool(self, place, tool):
        block = {"type": "tool_use", "id": f"c{place}", "name": tool.name, "input": {}}
        pieces = [
            event(
                "content_block_delta",
                index=2 + place,
                delta={"type": "input_json_delta", "partial_json": p},
            )
            for p in tool.pieces
        ]
        return [event("content_block_start", index=2 + place, content_block=block), *pieces]

    def begin(self):
        counts = {
            "input_tokens": 40,
            "cache_read_input_tokens": 60,
            "output_tokens": 1,
            "service_tier": "flex",
        }
        message = {"id": "msg_1", "model": "stub-1", "content": [], "usage": counts}
        return [event("message_start", message=message), event("ping")]

    def end(self, reason="stop", counts=SAID):
        word = {"stop": "end_turn", "cap": "max_tokens", "tools": "tool_use", "refused": "refusal"}[
            reason
        ]
        counted = (
            {
                "output_tokens": counts["output"],
                "output_tokens_details": {"thinking_tokens": counts["thinking"]},
            }
            if counts
            else None
        )
        return [
            event("message_delta", delta={"stop_reason": word}, usage=counted),
            event("message_stop"),
        ]

    def failed(self, message, status):
        word = {429: "rate_limit_error", 500: "api_error"}[status]
        return event("error", error={"type": word, "message": message})


class GeminiFormat:
    endpoint, path, key_header = (
        "gemini",
        "/v1/models/m:streamGenerateContent?alt=sse",
        "x-goog-api-key",
    )

    def _parts(self, *parts, **fields):
        candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0} | fields.pop(
            "candidate", {}
        )
        return data(
            {"candidates": [candidate], "modelVersion": "stub-1", "responseId": "r-1", **fields}
        )

    def text(self, text):
        return [
            self._parts(
                {"text": text},
                usageMetadata={
                    "promptTokenCount": 100,
                    "candidatesTokenCount": 1,
                    "totalTokenCount": 101,
                },
            )
        ]

    def thought(self, text):
        return [self._parts({"text": text, "thought": True})]

    def tool(self, place, tool):
        return [
            self._parts(
                {"functionCall": {"name": tool.name, "args": json.loads("".join(tool.pieces))}}
            )
        ]

    def begin(self):
        return [self._parts({"text": ""})]

    def end(self, reason="stop", counts=SAID):
        word = {"stop": "STOP", "cap": "MAX_TOKENS", "tools": "STOP", "refused": "SAFETY"}[reason]
        counted = (
            {
                "usageMetadata": {
                    "promptTokenCount": counts["input"],
                    "cachedContentTokenCount": counts["read"],
                    "trafficType": "flex",
                    "candidatesTokenCount": counts["output"] - counts["thinking"],
                    "thoughtsTokenCount": counts["thinking"],
                }
            }
            if counts
            else {}
        )
        return [self._parts(candidate={"finishReason": word}, **counted)]

    def failed(self, message, status):
        return data({"error": {"code": status, "message": message, "status": "UNAVAILABLE"}})


FORMATS = [ChatFormat(), ResponsesFormat(), MessagesFormat(), GeminiFormat()]


def reply_of(form, *middle, **end):
    """The pieces of a whole reply."""
    return [*form.begin(), *(p for pieces in middle for p in pieces), *form.end(**end)]


def make(form, stub, **options):
    return registry.make(form.endpoint, stub.url, name="acme", **{"timeout_s": 10.0, **options})
