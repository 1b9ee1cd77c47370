"""The batches of OpenAI and Anthropic on a real socket: strict about what it takes, and counts what
it bills."""

import json
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager

from tests.support.runner_stub import CLOSE, Stub, fixed

CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def reply_body(endpoint, text, number):
    """A whole reply in the format of an endpoint; 20 tokens in, 7 out."""
    if endpoint == "responses":
        return {
            "object": "response",
            "id": f"resp_{number}",
            "model": "stub-1",
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}],
            "usage": {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27},
            "service_tier": "default",
        }
    if endpoint == "messages":
        return {
            "type": "message",
            "id": f"msg_{number}",
            "model": "stub-1",
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": 20, "output_tokens": 7, "service_tier": "batch"},
        }
    return {
        "id": f"chat_{number}",
        "object": "chat.completion",
        "model": "stub-1",
        "choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27},
    }


class Service:
    """Keeps batches in memory.

    `answer(body, n)` gives a text, or ("error", status, message), ("expired",), ("canceled",),
    ("missing",); n is how often this very body was asked before. `polls` is how often a batch is
    seen unfinished. `before(event)` may return steps to send instead of doing what is asked,
    `hook(event)` steps instead of the reply.
    """

    def __init__(self, answer, *, polls=1, hook=lambda event: None, before=lambda event: None):
        self.answer, self.polls, self.hook, self.before = answer, polls, hook, before
        self.files, self.batches, self.refused = {}, {}, []
        self.asked, self.billed = Counter(), Counter()
        self.guard = threading.RLock()
        self.batch_fault = None
        self.hold = False  # batches do not end

    @contextmanager
    def serve(self):
        with Stub(self.respond) as stub:
            self.stub = stub
            yield stub

    def respond(self, seen):
        path = seen.path.removeprefix("/v1")
        event = (seen.method, path.split("?")[0])
        with self.guard:
            if (instead := self.before(event)) is not None:
                return instead
            try:
                status, body = self.route(seen, path)
            except AssertionError as error:
                self.refused.append(str(error))
                status, body = (
                    400,
                    {"error": {"message": f"refused: {error}", "type": "invalid_request_error"}},
                )
            if (instead := self.hook(event)) is not None:
                return instead
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            return fixed(status, data)

    def route(self, seen, path):
        if path.startswith("/messages"):
            assert seen.headers.get("anthropic-version"), "no version"
            return self.anthropic(seen, path)
        if path == "/files":
            return 200, {"id": self.upload(seen)}
        if path.startswith("/files/"):
            return 200, self.files[path.split("/")[2]]
        return self.openai(seen, path)

    # -- OpenAI ----------------------------------------------------------------------------------

    def upload(self, seen):
        boundary = re.search(r"multipart/form-data; boundary=(\S+)", seen.headers["content-type"])[
            1
        ]
        parts = seen.body.split(f"--{boundary}".encode())
        assert parts[-1].strip() == b"--", "the form does not end"
        assert b'name="purpose"\r\n\r\nbatch\r\n' in parts[1], "no purpose"
        head, _, file = parts[2].partition(b"\r\n\r\n")
        assert b'name="file"; filename="' in head, "no file"
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = file.removesuffix(b"\r\n")
        return file_id

    def openai(self, seen, path):
        if seen.method == "POST" and path == "/batches":
            asked = seen.json
            assert asked["completion_window"] == "24h", "another window"
            lines = [
                json.loads(line) for line in self.files[asked["input_file_id"]].splitlines() if line
            ]
            assert len({line["body"]["model"] for line in lines}) == 1, "more than one model"
            for line in lines:
                assert line["method"] == "POST"
                assert line["url"] == asked["endpoint"], "another endpoint"
            requests = [(line["custom_id"], line["body"]) for line in lines]
            endpoint = "responses" if asked["endpoint"].endswith("/responses") else "chat"
            return 200, self.shown(self.begin(requests, endpoint, asked["metadata"]))
        if path.split("?")[0] == "/batches":
            newest = [self.shown(b) for b in reversed(self.batches)]
            return 200, {"data": newest, "has_more": False}
        batch_id = path.split("/")[2]
        if batch_id not in self.batches:
            return 404, {"error": {"message": f"no batch {batch_id}"}}
        if path.endswith("/cancel"):
            self.batches[batch_id]["polls"] = 0
        self.batches[batch_id]["polls"] -= 1
        return 200, self.shown(batch_id)

    def shown(self, batch_id):
        batch = self.batches[batch_id]
        ended = self.has_ended(batch)
        found = {
            "id": batch_id,
            "object": "batch",
            "created_at": batch["at"],
            "metadata": batch["metadata"],
            "status": "completed" if ended else "in_progress",
            "request_counts": {
                "total": len(batch["requests"]),
                "completed": len(batch["requests"]) if ended else 0,
                "failed": 0,
            },
        }
        if ended and self.batch_fault is not None:
            faults, self.batch_fault = self.batch_fault, None
            batch["fault"] = {"status": "failed", "errors": {"data": faults}}
        if "fault" in batch:
            return found | batch["fault"]
        if ended:
            output, errors = [], []
            for custom_id, outcome in self.outcomes(batch):
                response = {
                    "status_code": 200,
                    "request_id": f"req_{custom_id[:6]}",
                    "body": outcome,
                }
                if isinstance(outcome, dict):
                    output.append(
                        {"id": "x", "custom_id": custom_id, "response": response, "error": None}
                    )
                elif outcome[0] == "error":
                    refused = {"error": {"message": outcome[2], "type": "x"}}
                    response |= {"status_code": outcome[1], "body": refused}
                    errors.append(
                        {"id": "x", "custom_id": custom_id, "response": response, "error": None}
                    )
                elif outcome[0] != "missing":
                    fault = {"code": f"batch_{outcome[0]}", "message": "not in time"}
                    errors.append(
                        {"id": "x", "custom_id": custom_id, "response": None, "error": fault}
                    )
            for name, lines in (("output_file_id", output), ("error_file_id", errors)):
                if lines:
                    found[name] = f"file-{batch_id}-{name}"
                    self.files[found[name]] = b"".join(
                        json.dumps(line).encode() + b"\n" for line in reversed(lines)
                    )
        return found

    # -- Anthropic -------------------------------------------------------------------------------

    def anthropic(self, seen, path):
        path, _, _ = path.partition("?")
        if seen.method == "POST" and path == "/messages/batches":
            requests = [(r["custom_id"], r["params"]) for r in seen.json["requests"]]
            assert all("max_tokens" in params for _, params in requests), "no max_tokens"
            return 200, self.told(self.begin(requests, "messages", None))
        if path == "/messages/batches":
            for batch in self.batches.values():  # time goes by for whoever looks
                batch["polls"] -= 1
            newest = [self.told(b) for b in reversed(self.batches)]
            return 200, {
                "data": newest,
                "has_more": False,
                "last_id": newest[-1]["id"] if newest else None,
            }
        batch_id = path.split("/")[3]
        if batch_id not in self.batches:
            return 404, {
                "type": "error",
                "error": {"type": "not_found_error", "message": f"no {batch_id}"},
            }
        batch = self.batches[batch_id]
        if path.endswith("/results"):
            assert self.has_ended(batch), "not ended"
            lines = [
                json.dumps({"custom_id": c, "result": self.result(o)})
                for c, o in reversed(self.outcomes(batch))
                if o != ("missing",)
            ]
            return 200, "\n".join(lines).encode()
        batch["polls"] -= 1
        return 200, self.told(batch_id)

    def told(self, batch_id):
        batch = self.batches[batch_id]
        ended, n = self.has_ended(batch), len(batch["requests"])
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch["at"]))
        return {
            "id": batch_id,
            "type": "message_batch",
            "created_at": at,
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else n,
                "succeeded": n if ended else 0,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "results_url": "http://elsewhere.example/steal",
        }

    def result(self, outcome):
        if isinstance(outcome, dict):
            return {"type": "succeeded", "message": outcome}
        if outcome[0] == "error":
            word = {400: "invalid_request_error", 500: "api_error", 529: "overloaded_error"}[
                outcome[1]
            ]
            return {
                "type": "errored",
                "error": {"type": "error", "error": {"type": word, "message": outcome[2]}},
            }
        return {"type": outcome[0]}

    # -- both ------------------------------------------------------------------------------------

    def begin(self, requests, endpoint, metadata):
        ids = [custom_id for custom_id, _ in requests]
        assert len(set(ids)) == len(ids), "an id twice"
        assert all(CUSTOM_ID.fullmatch(i) for i in ids), "a bad id"
        assert not any("stream" in body for _, body in requests), "streamed"
        batch_id = f"batch_{len(self.batches)}"
        self.batches[batch_id] = {
            "requests": requests,
            "endpoint": endpoint,
            "metadata": metadata,
            "polls": self.polls,
            "at": int(time.time()),
        }
        return batch_id

    def has_ended(self, batch):
        return batch["polls"] <= 0 and not self.hold

    def outcomes(self, batch):
        """Answer the requests, once."""
        if "outcomes" not in batch:
            found = []
            for number, (custom_id, body) in enumerate(batch["requests"]):
                same = json.dumps(body, sort_keys=True)
                outcome = self.answer(body, self.asked[same])
                self.asked[same] += 1
                if isinstance(outcome, str):
                    self.billed[custom_id] += 1
                    outcome = reply_body(batch["endpoint"], outcome, number)
                found.append((custom_id, outcome))
            batch["outcomes"] = found
        return batch["outcomes"]

    @property
    def sizes(self):
        return [len(b["requests"]) for b in self.batches.values()]


def instead(steps, *events, times=1):
    """A hook that sends other steps at some events, so many times."""
    left = Counter(dict.fromkeys(events, times))

    def hook(event):
        left[event] -= 1
        return steps if left[event] >= 0 else None

    return hook


def drop(*events, times=1):
    """A hook that drops the connection."""
    return instead([CLOSE], *events, times=times)
