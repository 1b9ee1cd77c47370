"""Agents: what they ask, which tools they run, how budgets end them, and that a real model gets
through."""

import asyncio
import dataclasses
import json

import pytest

from tests.support.launches import records
from workbench import datasets, scoring
from workbench.errors import ConfigError, ProviderRejected
from workbench.records import Call, Task, ToolCall
from workbench.runner import Plan, Work, collect, strategies
from workbench.runner.attempts.session import Reply, Session
from workbench.runner.providers import chat_templates
from workbench.runner.strategies.agent_text import read_step
from workbench.runner.strategies.reflexion import read_verdict
from workbench.runner.tools.budget import LAST_TOKENS
from workbench.spool import SpoolWriter

ITEM = scoring.TaskItem(
    task="t", item="1", input="What is 6 times 7?", target="42", scorer="numeric"
)
SET = datasets.TaskSet(Task(task="t"), [ITEM], scoring.get("numeric"), "Solve it.")
SUM = ("calculator", '{"expression": "6 * 7"}')
STEP = 'Thought: multiply\nAction: calculator\nAction Input: {"expression": "6 * 7"}'


class Model:
    """Says the replies of a script in turn: a text, or a list of (tool, arguments)."""

    def __init__(self, *says, input_tokens=1000, output_tokens=10, stop="stop"):
        self.says, self.asked, self.stop = list(says), [], stop
        self.counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}

    async def ask(self, request, role):
        self.asked.append((role, request))
        said = self.says.pop(0)
        tools = [] if isinstance(said, str) else said
        found = tuple(ToolCall(ordinal=n, tool=t, arguments=a) for n, (t, a) in enumerate(tools))
        reply = Reply(
            text=said if isinstance(said, str) else "",
            tool_calls=found,
            tool_ids=tuple(f"id{len(self.asked)}{n}" for n in range(len(found))),
            state="sealed" if found else None,
            stop_reason="tool_calls" if found else self.stop,
            call=Call(model=request.model, **self.counts),
        )
        return reply, None

    async def count(self, text):
        return len(text.split())

    def session(self, endpoint="chat"):
        render = chat_templates.get("question_answer") if endpoint == "completions" else None
        return Session(
            task=SET,
            model="m",
            ask=self.ask,
            count=self.count,
            endpoint=endpoint,
            sampling={"max_tokens": 99},
            render=render,
        )

    def messages(self, n=-1):
        """What was sent in a call."""
        return [(m["role"], m["content"]) for m in self.asked[n][1].messages]


async def act(model, name="react", endpoint="chat", **params):
    session = model.session(endpoint)
    strategy = strategies.get(name, **{"tools": ["calculator"], **params})
    outcome = await strategy.run(session, ITEM)
    assert len(session.calls) <= strategy.most_calls
    return outcome, session


# ---- native
# ---------------------------------------------------------------------------------------


async def test_an_agent_goes_on_until_it_answers():
    """A tool, its answer, the model's answer; the turn goes back with its state; all of it on
    record."""
    model = Model([SUM], "It is 42.\nAnswer: 42")
    outcome, session = await act(model)

    assert (outcome.answer_text, outcome.limit_type) == ("It is 42.\nAnswer: 42", None)
    assert outcome.metadata == {"protocol": "native"}
    turn = model.asked[1][1].messages[2]
    assert (turn["state"], turn["tool_calls"][0]["id"]) == ("sealed", "id10")
    assert model.messages()[-1] == ("tool", "42")
    (tool,) = session.tool_calls
    assert (tool.tool, tool.arguments, tool.call_ordinal, tool.error_type) == (*SUM, 0, None)
    assert (tool.result_tokens, tool.result_bytes) == (1, 2)
    assert tool.started_at is not None
    assert tool.e2e_s >= 0
    kinds = [(m.role, m.kind, m.tool_call_ordinal) for m in session.messages[2:]]
    assert kinds == [
        ("assistant", "tool_call", 0),
        ("tool", "tool_result", 0),
        ("assistant", "text", None),
    ]


async def test_tools_asked_for_together_run_together():
    """Side by side; their records and answers keep the order of asking."""
    model = Model([("calculator", "1/0"), ("nothing", "{}"), SUM], "Answer: 42")
    _, session = await act(model)

    assert [t.error_type for t in session.tool_calls] == ["no_value", "unknown_tool", None]
    answers = [m for m in model.asked[1][1].messages if m["role"] == "tool"]
    assert [m["tool_call_id"] for m in answers] == ["id10", "id11", "id12"]
    assert [m["error"] for m in answers] == [True, True, False]


@pytest.mark.parametrize(
    ("params", "limit", "n_tools"),
    [
        ({"max_turns": 2}, "turns", 2),
        ({"max_tool_calls": 2}, "tool_calls", 2),
        ({"token_budget": 2020}, "tokens", 2),
        ({"max_turns": 1, "max_tool_calls": 1}, "tool_calls", 1),
    ],
)
async def test_a_limit_ends_the_acting_and_one_answer_is_asked_for(params, limit, n_tools):
    """Turns, tool calls, tokens: whichever comes first is named; no more tools after it."""
    model = Model(*[[SUM]] * n_tools, "Answer: 42")
    outcome, session = await act(model, **params)

    assert (outcome.limit_type, outcome.answer_text) == (limit, "Answer: 42")
    assert len(session.tool_calls) == n_tools
    assert "No more tools can be used" in model.messages()[-1][1]
    assert model.asked[-1][1].sampling["tool_choice"] == "none"
    assert all("tool_choice" not in r.sampling for _, r in model.asked[:-1])


async def test_whoever_asks_for_tools_after_the_end_gets_none():
    """The text of the last reply is scored, whatever it asks for."""
    model = Model([SUM], [SUM])
    outcome, session = await act(model, max_turns=1)

    assert (outcome.answer_text, outcome.limit_type) == ("", "turns")
    assert session.tool_calls[0].result_bytes == 2
    assert [t.error_type for t in session.tool_calls] == [None, "budget"]  # asked for, never run
    assert (session.tool_calls[1].e2e_s, session.tool_calls[1].result_bytes) == (None, None)


async def test_tools_beyond_the_budget_are_not_run():
    """Of three at once, two fit; the third is answered and recorded as such."""
    model = Model([SUM] * 3, "Answer: 42")
    outcome, session = await act(model, max_tool_calls=2)

    assert [t.error_type for t in session.tool_calls] == [None, None, "budget"]
    assert session.tool_calls[2].e2e_s is None
    assert outcome.limit_type == "tool_calls"


@pytest.mark.parametrize("protocol", ["native", "text"])
async def test_a_budget_of_tokens_caps_each_reply_at_what_is_left(protocol):
    """Of 2050, turns of 1010 leave 1040, then 30; the configuration's own cap of 99 holds where it
    is lower."""
    step = [SUM] if protocol == "native" else STEP
    model = Model(step, step, step, "Answer: 42")
    outcome, _ = await act(model, protocol=protocol, token_budget=2050)

    assert [r.sampling["max_tokens"] for _, r in model.asked] == [99, 99, 30, 99]
    assert (outcome.limit_type, LAST_TOKENS) == ("tokens", 256)


@pytest.mark.parametrize(("stop", "limit"), [("max_tokens", "tokens"), ("stop", None)])
async def test_an_answer_that_is_cut_by_the_budget_names_it(stop, limit):
    """Ten tokens were left, and it wrote ten: the budget ended it where the server says that a cap
    did."""
    model = Model("Answer: 4", stop=stop)
    outcome, _ = await act(model, token_budget=10)

    assert (outcome.answer_text, outcome.limit_type) == ("Answer: 4", limit)


async def test_a_budget_of_tokens_needs_counts():
    """Unknown is not zero: the attempt is refused."""
    with pytest.raises(ProviderRejected, match="counts none") as caught:
        await act(Model([SUM], input_tokens=None), token_budget=10)

    assert caught.value.kind == "no_usage"


async def test_turns_that_are_left_and_what_was_used_are_told():
    """The reminder and the tracker stand at the end of the tool's answer, not in its record."""
    model = Model([SUM], "Answer: 42")
    _, session = await act(
        model, remind=True, track=True, max_turns=3, max_tool_calls=5, token_budget=9000
    )

    assert model.messages()[-1][1] == (
        "42\n\n[Used so far: 1 of 3 turns, 1 of 5 tool calls, 1010 of 9000 tokens."
        " You have 2 turns left.]"
    )
    assert session.tool_calls[0].result_bytes == 2


async def test_more_turns_are_granted_on_demand_up_to_a_cap():
    """Asked for by a tool of its own, which is no tool call of the budget; refused at the cap."""
    more = ("more_turns", '{"reason": "not done"}')
    model = Model([more], [SUM], [more], [more, SUM], "Answer: 42")
    outcome, session = await act(
        model, max_turns=2, extension_turns=2, most_turns=4, max_tool_calls=1, remind=True
    )

    said = [m.text for m in session.messages if m.kind == "tool_result"]
    assert said[0].startswith("Granted: 2 more turns.")
    assert "You have 3 turns left." in said[0]
    assert said[2].startswith("Refused")
    assert [t.tool for t in session.tool_calls].count("more_turns") == 3
    assert (outcome.limit_type, outcome.metadata["n_extensions"]) == ("turns", 1)
    assert "more_turns" in {t.name for t in model.asked[0][1].tools}


async def test_a_trace_without_tools_has_no_limit():
    """An answer at once is the end, however small the budget."""
    outcome, session = await act(Model("Answer: 42"), max_turns=1, token_budget=1)

    assert (outcome.limit_type, session.tool_calls) == (None, [])


# ---- in words
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asked", "kept"),
    [
        (STEP, SUM, STEP),
        (f"{STEP}\nObservation: 41\nThought: so\nAnswer: 41", SUM, STEP),
        (f"{STEP}\n\nThe answer is 12.", SUM, STEP),
        (
            "Thought: x\nAction: search[red fox]",
            ("search", "red fox"),
            "Thought: x\nAction: search[red fox]",
        ),
        ("Action: calculator(2 + 2)", ("calculator", "2 + 2"), "Action: calculator(2 + 2)"),
        (
            "Action: `sql`\nAction Input: SELECT 1\nFROM t\nThought: no",
            ("sql", "SELECT 1\nFROM t"),
            "Action: `sql`\nAction Input: SELECT 1\nFROM t",
        ),
        ("Action: calculator", ("calculator", None), "Action: calculator"),
        ("Thought: known\nAnswer: 42", None, "Thought: known\nAnswer: 42"),
        (
            "Answer: 42\nAction: calculator\nAction Input: 1",
            None,
            "Answer: 42\nAction: calculator\nAction Input: 1",
        ),
        ("It is 42.", None, "It is 42."),
        ("", None, ""),
        ("Observation: 9\nAnswer: 9", None, ""),
        ("Answer: 42\n\nQuestion: What is 1?\nAnswer: 7", None, "Answer: 42"),
        ("Action: \nAction Input: {", ("", "{"), "Action: \nAction Input: {"),
    ],
)
def test_a_step_is_read_as_far_as_the_model_may_write(text, asked, kept):
    """One action or one answer; what a model invents after it is dropped."""
    step = read_step(text)

    assert (step.tool_request and tuple(step.tool_request), step.text) == (asked, kept)


async def test_in_a_chat_the_observation_is_the_user_s():
    """Rules, an example with the tool's real answer, the question; then turn by turn."""
    model = Model(f"{STEP}\nObservation: 999", "Thought: done\nAnswer: 42")
    outcome, session = await act(model, protocol="text", shots=1)

    roles = [role for role, _ in model.messages()]
    assert roles == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert model.messages()[3] == ("user", "Observation: 385")
    assert model.messages()[-2:] == [("assistant", STEP), ("user", "Observation: 42")]
    assert "- calculator: " in model.messages()[0][1]
    assert all(r.tools == () and "\nObservation:" in r.sampling["stop"] for _, r in model.asked)
    (tool,) = session.tool_calls
    assert (tool.tool, tool.arguments, tool.call_ordinal, tool.result_bytes) == (*SUM, 0, 2)
    assert (outcome.answer_text, outcome.metadata) == (
        "Thought: done\nAnswer: 42",
        {"protocol": "text"},
    )


async def test_for_a_base_model_all_is_one_growing_text():
    """Its own words go on after the real observation; the end is begun with Answer."""
    model = Model(
        ' multiply\nAction: calculator\nAction Input: {"expression": "6 * 7"}',
        " I know it.\nAnswer: 42",
    )
    outcome, _ = await act(model, endpoint="completions", shots=1, max_turns=4)
    cut = Model(' x\nAction: calculator\nAction Input: {"expression": "6 * 7"}', " 42")
    ended, _ = await act(cut, endpoint="completions", max_turns=1)

    first, second = (request.prompt for _, request in model.asked)
    assert first.endswith("Question: What is 6 times 7?\nThought:")
    assert second == f"{first[:-8]}{STEP}\nObservation: 42\nThought:"
    assert "Observation: 385\nThought:" in first
    assert outcome.answer_text == "Thought: I know it.\nAnswer: 42"
    assert cut.asked[-1][1].prompt.endswith("final answer now.]\nAnswer:")
    assert (ended.answer_text, ended.limit_type) == ("Answer: 42", "turns")


async def test_an_action_at_the_end_is_no_answer():
    """The numbers among a tool's arguments are not scored."""
    step = 'Thought: again\nAction: calculator\nAction Input: {"expression": "42"}'
    outcome, session = await act(Model(STEP, step), protocol="text", max_turns=1)

    assert (outcome.answer_text, outcome.limit_type) == ("", "turns")
    assert [t.error_type for t in session.tool_calls] == [None, "budget"]


# ---- reflexion
# ------------------------------------------------------------------------------------


async def test_reflexion_tries_again_with_what_it_noted():
    """Its own verdict decides; the note stands before the question; judging is no turn of the
    subject's."""
    model = Model(
        "Answer: 41",
        "Hm. Verdict: wrong",
        "Use the calculator.",
        [SUM],
        "Answer: 42",
        "Verdict: right",
    )
    outcome, session = await act(model, "reflexion")

    assert [role for role, _ in model.asked] == [
        "subject",
        "verifier",
        "verifier",
        "subject",
        "subject",
        "verifier",
    ]
    assert "Answer: 41" in model.messages(1)[0][1]
    assert "- Use the calculator." in model.messages(3)[0][1]
    assert outcome.answer_text == "Answer: 42"
    assert outcome.metadata == {"protocol": "native", "n_attempts": 2, "signal": "self"}
    assert "42" not in "".join(
        text for n in (0, 1, 2) for _, text in model.messages(n)
    )  # no target
    assert len(session.tool_calls) == 1


async def test_reflexion_may_go_by_the_tools_alone():
    """An error, a limit, or no answer is a failed attempt; nobody is asked for a verdict."""
    model = Model(
        [("calculator", "1/0")],
        "Answer: 1",
        "Divide by something.",
        "",
        "Say something.",
        "Answer: 42",
    )
    outcome, _ = await act(model, "reflexion", signal="tools", attempts=5)

    assert [role for role, _ in model.asked] == [
        "subject",
        "subject",
        "verifier",
        "subject",
        "verifier",
        "subject",
    ]
    assert (outcome.metadata["n_attempts"], outcome.metadata["signal"]) == (3, "tools")


async def test_the_oracle_says_so_in_name_and_record():
    """Only there does the target decide; the last attempt is not judged."""
    model = Model("Answer: 41", "Note.", "Answer: 42")
    outcome, _ = await act(model, "reflexion_oracle", attempts=5)

    assert (outcome.metadata["signal"], outcome.metadata["n_attempts"]) == ("oracle", 2)
    strategy = strategies.get("reflexion_oracle", attempts=2)
    assert strategy.name == "reflexion_oracle"
    last = Model("Answer: 1", "Note.", "Answer: 2")
    assert (await act(last, "reflexion_oracle", attempts=2))[0].answer_text == "Answer: 2"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Verdict: right", True),
        ("**Verdict:** Wrong.", False),
        ("verdict = incorrect", False),
        ("It is right.", None),
        ("Verdict: right? No. Verdict: wrong", False),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_unknown(text, verdict):
    """The last one counts; none at all is no verdict."""
    assert read_verdict(text) is verdict


# ---- parameters
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tools": ["calculater"]}, "did you mean 'calculator'"),
        ({"tools": ["sql", "sql"]}, "twice"),
        ({"tools": []}, "1 or more"),
        ({"protocol": "words"}, "one of auto, native, text"),
        ({"max_turns": 0}, "from 1 up"),
        ({"max_tool_calls": 0}, "from 1 up"),
        ({"extension_turns": 2, "max_turns": 16}, "no room for extensions"),
    ],
)
def test_parameters_of_no_use_are_refused_before_anything_is_asked(params, words):
    """By name, with what is wanted."""
    with pytest.raises(ConfigError, match=words):
        strategies.get("react", **params)


def test_parameters_are_json_and_identify_the_configuration():
    """What the store keeps of an agent."""
    params = strategies.get("react", tools=["sql"], token_budget=500).params

    assert json.loads(json.dumps(params))["tools"] == ["sql"]
    assert (params["token_budget"], params["max_tool_calls"], params["protocol"]) == (
        500,
        None,
        "auto",
    )
    assert strategies.get("react", max_turns=4).most_calls == 5
    assert strategies.get("react", max_turns=4, extension_turns=2, most_turns=9).most_calls == 10


# ---- a real model
# ---------------------------------------------------------------------------------


def test_a_real_model_acts_in_words(llama, tmp_path):
    """llama.cpp and SmolLM2: the tool runs, the budget holds, every call is counted."""
    whole = datasets.load_task("lookup")
    items = [i for i in whole.items if i.cluster == "bridge-designer"][:1]
    task = dataclasses.replace(whole, items=items)
    params = {"tools": ["search"], "protocol": "text", "max_turns": 1, "shots": 1}
    plan = Plan(
        models=("smollm2",),
        tasks=("lookup",),
        limit=1,
        base_url=llama,
        max_tokens=48,
        temperature=0.0,
    )
    work = Work(plan, [task], [strategies.get("react", **params)])
    with SpoolWriter(tmp_path, "r1") as writer:
        report = asyncio.run(collect(plan, spool=writer, work=work))

    traces = list(records(tmp_path, run_id="r1"))
    tools = [tool for trace in traces for tool in trace.tool_calls]
    assert (report.status, report.failed, len(traces)) == ("done", 0, 1)
    assert all(trace.passed is not None and len(trace.calls) == 2 for trace in traces)
    assert all(call.input_tokens and call.output_tokens for t in traces for call in t.calls)
    assert {tool.tool for tool in tools} >= {"search"}
    ran = [tool for tool in tools if tool.error_type != "budget"]
    assert len(ran) == 1
    assert all(tool.error_type is None and tool.result_tokens > 10 for tool in ran)
    assert all(tool.result_bytes > 0 and tool.e2e_s >= 0 for tool in ran)


def test_a_real_template_without_tools_is_found_out(llama, tmp_path):
    """SmolLM2's drops them without a word: the attempt fails with what to do, instead of a wrong
    figure."""
    plan = Plan(
        models=("smollm2",),
        tasks=("lookup",),
        limit=1,
        base_url=llama,
        max_tokens=8,
        temperature=0.0,
    )
    work = Work(plan, [datasets.load_task("lookup")], [strategies.get("react")])
    with SpoolWriter(tmp_path, "r1") as writer:
        asyncio.run(collect(plan, spool=writer, work=work))

    (trace,) = records(tmp_path, run_id="r1")
    assert trace.error_type == "tools_dropped"
    assert "protocol = 'text'" in trace.error_message
