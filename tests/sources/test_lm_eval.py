"""Results and samples of the LM Evaluation Harness, joined; filters are scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from workbench import sources
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Configuration, Item, Result, Run, Task, Trace
from workbench.sources.report import FileReport
from workbench.store import open_store

TIME = "2026-03-01T13-09-22.771759"


def results(**changes: Any) -> dict[str, Any]:
    """A results file of a generated task with two filters, a choice task, and a group."""
    written = {
        "results": {
            "gsm": {
                "name": "gsm",
                "alias": "gsm",
                "sample_len": 2,
                "exact_match,strict": 0.5,
                "exact_match_stderr,strict": 0.25,
                "exact_match,flexible": 1.0,
                "exact_match_stderr,flexible": 0.0,
            },
            "arc": {"alias": "arc", "acc,none": 1.0, "acc_stderr,none": "N/A"},
            "mmlu": {"alias": "mmlu", "acc,none": 0.625, "acc_stderr,none": 0.03125},
        },
        "group_subtasks": {"mmlu": ["a", "b"]},
        "configs": {
            "gsm": {
                "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": 256, "temperature": 0.25},
                "repeats": 2,
                "num_fewshot": 5,
            },
            "arc": {"metric_list": [{"metric": "acc", "aggregation": "mean"}]},
        },
        "versions": {"gsm": 3.0, "arc": 1.0},
        "n-shot": {"gsm": 5, "arc": 0},
        "higher_is_better": {"mmlu": {"acc": True}},
        "n-samples": {
            "gsm": {"original": 1319, "effective": 2},
            "arc": {"original": 9, "effective": 1},
            "mmlu": {"original": 14_042, "effective": 14_042},
        },
        "config": {
            "model": "hf",
            "model_args": "pretrained=org/model-7b,dtype=bfloat16",
            "device": "cuda:0",
            "gen_kwargs": "top_p=0.75",
            "random_seed": 17,
        },
        "git_hash": "abc1234",
        "date": 1_772_370_560.5,
        "lm_eval_version": "0.4.13",
        "transformers_version": "5.24.0",
        "model_name": "org/model-7b",
        "total_evaluation_time_seconds": "12.5",
    }
    return written | changes


def generated(doc: int, filter_: str, answer: str, score: float) -> dict[str, Any]:
    """A row of the generated task."""
    return {
        "doc_id": doc,
        "doc": {"question": f"question {doc}", "answer": "4"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"prompt {doc}", "arg_1": {"until": ["\n"]}}},
        "resps": [[f"long answer {doc}", f"other answer {doc}"]],
        "filtered_resps": [answer],
        "filter": filter_,
        "metrics": ["exact_match"],
        "doc_hash": f"hash{doc}",
        "exact_match": score,
    }


CHOICE = {
    "doc_id": 7,
    "doc": {"query": "which?", "choices": ["x", "y"]},
    "target": "1",
    "arguments": {
        "gen_args_0": {"arg_0": "which?", "arg_1": " x"},
        "gen_args_1": {"arg_0": "which?", "arg_1": " y"},
    },
    "resps": [[["-1.5", "False"]], [["-0.25", "True"]]],
    "filtered_resps": [["-1.5", "False"], ["-0.25", "True"]],
    "filter": "none",
    "metrics": ["acc", "word_perplexity"],
    "acc": 1.0,
    "word_perplexity": [-3.5, 2],
}
ROWS = [
    generated(0, "strict", "4", 1.0),
    generated(1, "strict", "[invalid]", 0.0),
    generated(0, "flexible", "4", 1.0),
    generated(1, "flexible", "4", 1.0),
]


def write(folder: Path, document: dict[str, Any] | None = None) -> Path:
    """The folder that the harness writes; returns the results file."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, rows in (("gsm", ROWS), ("arc", [CHOICE])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"samples_{task}_{TIME}.jsonl").write_text(text)
    path = folder / f"results_{TIME}.json"
    path.write_text(json.dumps(document or results(), indent=2))
    return path


def read(path: Path) -> tuple[list[AnyRecord], FileReport]:
    """The records of a file."""
    report = FileReport(path)
    assert getattr(sources.detect(path), "name", None) == "lm-eval"
    return list(sources.read(path, report=report)), report


@pytest.fixture
def records(tmp_path: Path) -> list[AnyRecord]:
    """The records of the whole folder."""
    return read(write(tmp_path))[0]


def of(kind: type, records: list[AnyRecord]) -> list[Any]:
    """The records of a kind."""
    return [record for record in records if isinstance(record, kind)]


def test_a_folder_is_read_with_its_samples(tmp_path: Path) -> None:
    write(tmp_path)
    files = sources.detect_files(tmp_path)
    assert [file.source.name if file.source else None for file in files] == ["lm-eval", None, None]


def test_the_run_and_the_configuration(records: list[AnyRecord]) -> None:
    [run] = of(Run, records)
    assert (run.commit_sha, run.accelerator) == ("abc1234", "cuda:0")
    assert (run.ended_at - run.started_at).total_seconds() == 12.5
    assert json.loads(run.versions) == {"lm_eval": "0.4.13", "transformers": "5.24.0"}
    gsm, arc, _ = of(Configuration, records)
    assert {c.model for c in (gsm, arc)} == {"org/model-7b"}
    assert (gsm.temperature, gsm.top_p, gsm.max_tokens) == (0.25, 0.75, 256)
    assert (gsm.strategy_params, arc.strategy_params) == ('{"num_fewshot":5}', '{"num_fewshot":0}')
    assert json.loads(gsm.settings) == {
        "backend": "hf",
        "model_args": "pretrained=org/model-7b,dtype=bfloat16",
        "seed": 17,
        "repeats": 2,
    }
    assert [(t.task, t.version, t.scorer) for t in of(Task, records)] == [
        ("gsm", "3.0", "exact_match,strict, exact_match,flexible"),
        ("arc", "1.0", "acc"),
        ("mmlu", None, "acc"),
    ]


def test_the_rows_of_a_document_are_one_trace_with_a_score_for_each_filter(
    records: list[AnyRecord],
) -> None:
    first, second, _ = of(Trace, records)
    assert [(s.scorer, s.score, s.answer) for s in second.scores] == [
        ("exact_match,strict", 0.0, "[invalid]"),
        ("exact_match,flexible", 1.0, "4"),
    ]
    assert (second.score, second.passed, second.answer) == (0.0, False, "[invalid]")
    assert (first.score, first.passed) == (1.0, True)
    assert [(m.role, m.text, m.call_ordinal) for m in second.messages] == [
        ("user", "prompt 1", 0),
        ("assistant", "long answer 1", 0),
        ("assistant", "other answer 1", 1),
    ]
    assert len(second.calls) == 2
    assert all(call.input_tokens is None for call in second.calls)
    item = of(Item, records)[1]
    assert (item.item, item.input, item.target) == ("1", "question 1", "4")
    assert json.loads(item.metadata) == {"doc": {"question": "question 1", "answer": "4"}}


def test_choices_are_one_call_with_their_likelihoods(records: list[AnyRecord]) -> None:
    choice = of(Trace, records)[2]
    assert (choice.answer, choice.score) == ("1", 1.0)
    assert [(call.n_requests, call.output_tokens) for call in choice.calls] == [(2, None)]
    assert json.loads(choice.metadata)["log_likelihoods"] == [["-1.5", "False"], ["-0.25", "True"]]
    assert [(s.scorer, s.score, s.value) for s in choice.scores] == [
        ("acc", 1.0, None),
        ("word_perplexity", None, "[-3.5,2]"),
    ]


def test_a_task_without_samples_is_a_result(records: list[AnyRecord]) -> None:
    [result] = of(Result, records)
    assert (result.metric, result.value, result.standard_error) == ("acc", 0.625, 0.03125)
    assert (result.n, result.direction) == (14_042, "higher")


def test_stated_means_are_compared(tmp_path: Path) -> None:
    _, report = read(write(tmp_path))
    assert [(t.name, t.stated, t.computed) for t in report.totals] == [
        ("gsm: exact_match,strict", 0.5, 0.5),
        ("gsm: exact_match,flexible", 1.0, 1.0),
        ("gsm: documents", 2, 2),
        ("arc: acc", 1.0, 1.0),
        ("arc: documents", 1, 1),
    ]
    changed = results()
    changed["results"]["gsm"]["exact_match,strict"] = 0.75
    _, report = read(write(tmp_path / "other", changed))
    assert [t.name for t in report.totals if not t.agrees] == ["gsm: exact_match,strict"]


def test_samples_named_by_themselves_belong_to_the_same_run(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.duckdb", create=True)
    path = write(tmp_path / "out")
    store.ingest(read(path)[0])
    report = store.ingest(read(path.with_name(f"samples_gsm_{TIME}.jsonl"))[0])
    assert not any(report.rows_new.values())
    assert not any(store.ingest(read(path)[0]).rows_new.values())


def test_samples_without_results_are_read_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "org__model")
    path.unlink()
    records, report = read(path.with_name(f"samples_gsm_{TIME}.jsonl"))
    [configuration] = of(Configuration, records)
    assert configuration.model == "org__model"
    assert [t.task for t in of(Task, records)] == ["gsm"]
    assert any("no results file" in note for note in report.notes)


def test_two_models_answer_the_same_items(tmp_path: Path) -> None:
    """Though their prompts differ by chat templates."""
    ids = []
    for model in ("a", "b"):
        records, _ = read(write(tmp_path / model, results(model_name=model)))
        ids.append([item.item_id for item in of(Item, records)])
    assert ids[0] == ids[1]


def test_the_older_layout_without_filters(tmp_path: Path) -> None:
    """Of 2023: metrics without a comma, arguments as lists, no list of metrics."""
    path = tmp_path / "results.json"
    old = {
        "results": {"arc": {"acc": 0.5, "acc_stderr": 0.125}},
        "versions": {"arc": 0},
        "config": {"model": "gpt2", "model_args": "pretrained=gpt2"},
    }
    path.write_text(json.dumps(old))
    records, _ = read(path)
    [result] = of(Result, records)
    assert (result.metric, result.value, result.standard_error) == ("acc", 0.5, 0.125)
    [configuration] = of(Configuration, records)
    assert configuration.model == "gpt2"


@pytest.mark.parametrize(
    "text", ['{"results": {"a": {"acc,none": 0.5', '{"results": 3, "versions": 1, "config": 2}']
)
def test_what_is_broken_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results_x.json"
    path.write_text(text)
    with pytest.raises(ImportFormatError, match=r"results_x\.json"):
        list(sources.get("lm-eval").read(path, report=FileReport(path)))


@pytest.mark.parametrize(
    "change",
    [
        {"resps": 3},
        {"resps": [[]]},
        {"filtered_resps": None},
        {"arguments": "x"},
        {"metrics": 3},
        {"exact_match": "x"},
        {"exact_match": float("nan")},
        {"doc": [1]},
        {"target": {"a": [1]}},
        {"doc_id": None},
    ],
)
def test_rows_of_another_form_are_read_as_far_as_they_go(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / f"samples_gsm_{TIME}.jsonl"
    path.write_text(json.dumps(ROWS[0] | change) + "\n")
    records, _ = read(path)
    assert len(of(Trace, records)) == 1
