"""Which calls continue each other, and the traces that they become."""

import datetime as dt

import msgspec
import pytest

from workbench.recorder.conversations import RecordedCall, Recording
from workbench.recorder.requests import RecordedRequest
from workbench.records import Call, Configuration, ToolCall, Trace
from workbench.runner.providers.protocol import Reply
from workbench.sources.prompts import PromptMessage, ToolRequest, ToolResult

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
SYSTEM = PromptMessage("system", "You are a clerk.")


def user(text):
    return PromptMessage("user", text)


def assistant(text, *calls):
    return PromptMessage("assistant", text, tuple(calls))


def result(tool_id, text, *, is_error=False, name=""):
    return PromptMessage("tool", tool_results=(ToolResult(tool_id, name, text, is_error),))


class Program:
    """Calls one after the other: each is sent `wait_s` after the last ended, and takes 2 s."""

    def __init__(self, **settings):
        self.recording = Recording(
            "run-1", task="recorded", strategy="agent", metadata={"project": "/p"}, **settings
        )
        self.now = START

    def call(
        self,
        *messages,
        answer="",
        tools=(),
        thinking=None,
        model="m",
        error=None,
        continues=None,
        response_id=None,
        settings=None,
        wait_s=1.0,
        tokens=10,
    ):
        sent = self.now + dt.timedelta(seconds=wait_s)
        self.now = sent + dt.timedelta(seconds=2)
        call = Call(
            model=model,
            provider="openai",
            started_at=sent,
            e2e_s=2.0,
            output_tokens=tokens,
            stop_reason="error" if error else "stop",
            error_type=error,
            error_message=error and f"it was {error}",
            response_id=response_id,
        )
        reply = Reply(
            text=answer,
            thinking=thinking,
            tool_calls=tuple(
                ToolCall(ordinal=n, tool=tool.name, arguments=tool.arguments)
                for n, tool in enumerate(tools)
            ),
            tool_ids=tuple(tool.id for tool in tools),
            stop_reason=call.stop_reason,
            call=call,
        )
        request = RecordedRequest(model, tuple(messages), continues, settings or {}, None)
        return self.recording.add(RecordedCall(request, reply, self.now))

    def traces(self):
        records = [
            record
            for conversation in self.recording.conversations
            for record in conversation.records(self.recording)
        ]
        return [record for record in records if isinstance(record, Trace)]

    def configurations(self):
        records = [
            record
            for conversation in self.recording.conversations
            for record in conversation.records(self.recording)
        ]
        return [record for record in records if isinstance(record, Configuration)]


def parts(trace):
    return [(m.role, m.kind, m.text, m.call_ordinal) for m in trace.messages]


def test_a_prompt_that_goes_on_from_another_is_the_same_conversation():
    program = Program()
    program.call(SYSTEM, user("Hello"), answer="Hi.", thinking="A greeting.")
    program.call(SYSTEM, user("Hello"), assistant("Hi."), user("Bye"), answer="So long.")

    [trace] = program.traces()
    assert parts(trace) == [
        ("system", "text", "You are a clerk.", 0),
        ("user", "text", "Hello", 0),
        ("assistant", "thinking", "A greeting.", 0),
        ("assistant", "text", "Hi.", 0),
        ("user", "text", "Bye", 1),
        ("assistant", "text", "So long.", 1),
    ]
    assert (trace.answer, trace.n_turns, trace.e2e_s) == ("So long.", 2, 5.0)
    assert [call.ordinal for call in trace.calls] == [0, 1]
    assert len({call.call_id for call in trace.calls}) == 2


def test_a_reply_that_is_sent_back_otherwise_is_not_stored_twice():
    """Some programs strip what they send back, or rewrite it."""
    program = Program()
    program.call(user("Hello"), answer="  Hi,\r\nyou. ")
    program.call(user("Hello"), assistant("(greets)"), user("Bye"), answer="So long.")

    [trace] = program.traces()
    assert [text for *_, text, _ in parts(trace)] == ["Hello", "  Hi,\r\nyou. ", "Bye", "So long."]


def test_a_repeated_message_is_stored_as_often_as_it_was_sent():
    program = Program()
    chat = [user("go on")]
    for n in range(3):
        program.call(*chat, answer=f"Part {n}.")
        chat += [assistant(f"Part {n}."), user("go on")]

    [trace] = program.traces()
    assert [m.text for m in trace.messages if m.role == "user"] == ["go on"] * 3


def test_system_words_that_differ_from_call_to_call_do_not_part_a_conversation():
    program = Program()
    program.call(PromptMessage("system", "It is 12:00."), user("Hello"), answer="Hi.")
    program.call(
        PromptMessage("system", "It is 12:01."), user("Hello"), assistant("Hi."), user("Bye")
    )

    [trace] = program.traces()
    assert [m.text for m in trace.messages if m.role == "system"] == [
        "It is 12:00.",
        "It is 12:01.",
    ]


def test_the_same_prompt_again_is_another_trial():
    program = Program()
    program.call(user("Toss a coin."), answer="Heads.")
    program.call(user("Toss a coin."), answer="Tails.")
    program.call(user("Toss a coin."), assistant("Heads."), user("Again?"), answer="Yes.")

    first, second = program.traces()
    assert (first.item_id, first.trial, second.trial) == (second.item_id, 0, 1)
    assert first.trace_id != second.trace_id
    assert (len(first.calls), len(second.calls)) == (2, 1)


def test_the_same_prompt_after_a_failure_is_a_retry():
    program = Program()
    program.call(user("Hello"), error="http_429")
    [failed] = program.traces()
    assert (failed.error_type, failed.error_message) == ("http_429", "it was http_429")
    program.call(user("Hello"), answer="Hi.")

    [trace] = program.traces()
    assert trace.error_type is None
    assert [call.error_type for call in trace.calls] == ["http_429", None]
    assert [m.text for m in trace.messages] == ["Hello", "Hi."]


def test_a_response_id_names_the_conversation():
    program = Program()
    program.call(user("One"), answer="1", response_id="resp_1")
    program.call(user("Other"), answer="x", response_id="resp_2")
    program.call(user("Two"), answer="2", continues="resp_1", response_id="resp_3")

    assert [len(trace.calls) for trace in program.traces()] == [2, 1]


def test_ids_of_tool_calls_name_the_conversation_though_the_prompt_was_shortened():
    ls = ToolRequest("toolu_0123456789", "ls", '{"path":"/"}')
    program = Program()
    program.call(SYSTEM, user("A long task."), tools=[ls])
    program.call(
        SYSTEM, user("(shortened)"), assistant("", ls), result(ls.id, "a.txt"), answer="ok"
    )

    [trace] = program.traces()
    assert [kind for _, kind, *_ in parts(trace)] == [
        "text",
        "text",
        "tool_call",
        "text",
        "tool_result",
        "text",
    ]


@pytest.mark.parametrize("tool_id", ["call_0", "call_1", "0", ""])
def test_ids_that_many_servers_give_name_no_conversation(tool_id):
    ls = ToolRequest(tool_id, "ls", "{}")
    program = Program()
    for place in ("red", "blue"):
        program.call(user(f"A {place} task."), tools=[ls])
        program.call(user(f"A {place} task."), assistant("", ls), result(tool_id, place))

    red, blue = program.traces()
    assert [m.text for m in red.messages] == ["A red task.", "ls({})", "red"]
    assert [m.text for m in blue.messages] == ["A blue task.", "ls({})", "blue"]


def test_tool_calls_have_results_times_and_errors():
    ls = ToolRequest("toolu_0123456789", "ls", '{"b":1,"a":2}')
    cat = ToolRequest("toolu_9876543210", "cat", "{}")
    both = (ls, cat)
    program = Program()
    program.call(user("Go"), tools=[ls])
    first = [user("Go"), assistant("", ls), result(ls.id, "a.txt")]
    program.call(*first, tools=both[1:], wait_s=3.0)
    second = [*first, assistant("", cat), result(cat.id, "no such file: é", is_error=True)]
    program.call(*second, answer="Done.")

    [trace] = program.traces()
    listed, shown = trace.tool_calls
    assert (listed.tool, listed.arguments, listed.call_ordinal) == ("ls", '{"a":2,"b":1}', 0)
    assert (listed.e2e_s, listed.result_bytes, listed.error_type) == (3.0, 5, None)
    assert (shown.e2e_s, shown.result_bytes, shown.error_type) == (1.0, 16, "failed")
    assert shown.error_message == "no such file: é"
    results = [m for m in trace.messages if m.kind == "tool_result"]
    assert [m.tool_call_ordinal for m in results] == [0, 1]


def test_the_time_of_tools_that_ran_side_by_side_is_unknown():
    tools = [ToolRequest(f"toolu_012345678{n}", "ls", "{}") for n in range(2)]
    program = Program()
    program.call(user("Go"), tools=tools)
    program.call(user("Go"), assistant("", *tools), *[result(t.id, "x") for t in tools])

    [trace] = program.traces()
    assert [tool.e2e_s for tool in trace.tool_calls] == [None, None]
    assert [tool.result_bytes for tool in trace.tool_calls] == [1, 1]


def test_results_without_ids_go_to_the_calls_of_their_names():
    """Gemini gives no ids unless it is asked for them."""
    tools = [ToolRequest("", name, "{}") for name in ("ls", "cat")]
    program = Program()
    program.call(user("Go"), tools=tools)
    program.call(
        user("Go"),
        assistant("", *tools),
        result("", "text", name="cat"),
        result("", "a", name="ls"),
    )

    [trace] = program.traces()
    assert {tool.tool: tool.result_bytes for tool in trace.tool_calls} == {"ls": 1, "cat": 4}


def test_the_configuration_is_that_of_the_model_that_wrote_the_most():
    program = Program()
    program.call(user("a"), answer="b", model="small", tokens=5, settings={"temperature": 0.5})
    chat = [user("a"), assistant("b"), user("c")]
    program.call(*chat, answer="d", model="large", tokens=90, settings={"temperature": 1.0})
    chat += [assistant("d"), user("e")]
    settings = {"temperature": 1.0, "max_tokens": 7}
    program.call(*chat, answer="f", model="large", tokens=9, settings=settings)

    [configuration] = program.configurations()
    assert (configuration.model, configuration.strategy) == ("large", "agent")
    assert (configuration.temperature, configuration.max_tokens) == (1.0, None)


def test_the_same_question_is_the_same_item_in_every_recording():
    first, second = Program(), Program()
    second.recording.run_id = "run-2"
    first.call(SYSTEM, user("2 + 2?"), answer="4", model="a")
    second.call(user("2 + 2?"), answer="5", model="b")

    [one], [other] = first.traces(), second.traces()
    assert one.item_id == other.item_id
    assert one.trace_id != other.trace_id


def test_keys_are_taken_out_of_every_text():
    tool = ToolRequest("toolu_0123456789", "echo", '{"text":"SECRET"}')
    program = Program(clean=lambda text: text.replace("SECRET", "[key]"))
    program.call(user("my SECRET"), answer="a SECRET", thinking="SECRET!", tools=[tool])
    program.call(
        user("my SECRET"), assistant("a SECRET", tool), result(tool.id, "SECRET", is_error=True)
    )

    [trace] = program.traces()
    assert b"SECRET" not in msgspec.json.encode(trace)


def test_three_hundred_turns_are_one_trace():
    program = Program()
    chat = [user("start")]
    for n in range(300):
        program.call(*chat, answer=f"answer {n}")
        chat += [assistant(f"answer {n}"), user(f"question {n}")]

    [trace] = program.traces()
    assert len(trace.messages) == 600
    assert len(trace.calls) == 300
