"""`workbench report` on a real small store: files, options, what fails, and commands that give it
all again."""

import json
import re
import shlex

import pytest

from tests.support import making
from workbench import analysis, report
from workbench.analysis.catalogue import registry
from workbench.cli import main
from workbench.cli import report as command


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all."""
    return making.small_store(tmp_path_factory.mktemp("report"))


@pytest.fixture
def ask(store, capsys, monkeypatch):
    """Run the command beside the store; returns status, stdout, stderr."""
    monkeypatch.chdir(store.path.parent)
    monkeypatch.setenv("WORKBENCH_STORE", str(store.path))

    def run(*args):
        status = main(["report", *map(str, args)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_ending_of_the_file_says_what_is_written(ask, tmp_path):
    """A page with its chart, Markdown, LaTeX; progress is talk."""
    for suffix, begins in ((".html", "<!doctype html>"), (".md", "# Ours"), (".tex", "% Ours")):
        path = tmp_path / f"report{suffix}"
        status, out, err = ask("summary", "--title", "Ours", "-o", path)

        assert (status, out) == (0, "")
        assert "1/1  summary" in err
        assert "1 answers" in err
        text = path.read_text(encoding="utf-8")
        assert text.startswith(begins)
        assert ("<svg" in text) == (suffix == ".html")
    assert command.SUFFIXES == report.SUFFIXES


def test_what_was_looked_at_is_said(ask, store):
    """The slice, n of N, models, runs, prices with their digest, and the seed; never the folder of
    the store."""
    status, out, _ = ask("summary", "--where", "model:gpt*", "--by", "model", "--seed", "7")

    assert status == 0
    n, n_all = store.count("model:gpt*"), store.count()
    assert f"| Traces | {n} of {n_all} |" in out
    assert "| Models (2) | " in out
    assert "| Grouped by | model |" in out
    assert re.search(
        r"Prices in force \| \d rows? of .*sha256 of their ids [0-9a-f]{12}; 0 traces without", out
    )
    assert "seed 7" in out
    assert "run-1" in out
    assert str(store.path.parent) not in out
    assert "summary --where 'model:gpt*' --by model --seed 7 --store" in out


def test_the_command_of_an_answer_gives_it_again(ask, capsys):
    """Options that are not at their default are in it, flags among them."""
    _, out, _ = ask(
        "frontier", "-O", "x=e2e_s", "-O", "frontier.shared=yes", "--where", "task:sums right"
    )
    line = re.search(r"```\n(workbench analyze frontier .*)\n```", out)[1]
    words = shlex.split(line)
    assert words[3:] == [
        "--where",
        "task:sums right",
        "--x",
        "e2e_s",
        "--shared",
        "--store",
        words[-1],
    ]

    assert main([*words[1:], "--format", "json"]) == 0

    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == len(
        re.findall(r"^\| (gpt|nobody)", out.split("### Frontier")[1], re.MULTILINE)
    )


def test_the_usual_questions_a_family_and_all():
    """The usual ones come first in their family; all are the whole registry."""
    assert set(report.select_analyses()) == set(report.USUAL)
    assert set(report.select_analyses(families=["scaling"])) == {"quantization", "scaling-law"}
    assert set(report.select_analyses(all_=True)) == set(analysis.names())
    assert report.select_analyses(["tradeoff", "summary"]) == ["summary", "tradeoff"]


def test_a_family_of_a_former_name_is_found_with_a_warning():
    """Scripts that name `laws` go on, and learn the new name."""
    with pytest.warns(FutureWarning, match="scaling"):
        assert report.select_analyses(families=["laws"]) == report.select_analyses(
            families=["scaling"]
        )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["summry"], "summary"),
        (["--family", "cots"], "cost"),
        (["summary", "-O", "lvl=1"], "level"),
        (["summary", "-O", "level=3"], "above"),
        (["summary", "-O", "frontier.x=e2e_s"], "analysis of this report"),
        (["summary", "-O", "level"], "NAME"),
        (["summary", "-o", "x.pdf"], ".html .md .tex"),
    ],
)
def test_misuse_is_said_before_anything_is_asked(ask, args, said):
    """With the nearest valid name."""
    status, out, err = ask(*args)

    assert (status, out) == (2, "")
    assert said in err
    assert "1/1" not in err


def test_one_that_fails_does_not_cost_the_others_their_answer(ask, store, monkeypatch):
    """Its error is in the report, and in the exit status."""
    declared = analysis.get("power")

    def broken(*_args, **_options):
        raise ZeroDivisionError("<b>by</b> zero")

    monkeypatch.setattr(
        registry,
        "get",
        lambda name: _with(declared, broken) if name == "power" else analysis.get(name),
    )
    status, out, err = ask("summary", "power")

    assert status == 1
    assert "### Summary" in out
    assert r"failed: ZeroDivisionError: \<b\>by\</b\> zero" in out
    assert "failed: power" in err


def _with(declared, function):
    """The declaration with another function."""
    import dataclasses

    return dataclasses.replace(declared, function=function)


def test_nothing_to_answer_from_is_no_failure(ask):
    """Listed with the reason; the exit status is 0."""
    status, out, _ = ask("energy", "summary", "--where", "model:gpt-4o")

    assert status == 0
    assert "**Energy**" in out.split("## Without an answer")[1]


def test_a_report_is_reached_from_python(store):
    """`wb.report` is the module; time is an argument."""
    import datetime as dt

    import workbench as wb

    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    found = wb.report.make(store, ["summary"], now=now, draw=False, by="model")

    assert found.made_at == now
    assert found.answers[0].result.by == ("model",)
    assert not found.changed
    assert found.looked.first_at.replace(tzinfo=dt.UTC) == making.START
    assert wb.report.written(found, ".md") == wb.report.as_markdown(found)


def test_the_former_name_of_the_progress_callback_works_and_warns(store):
    """`told=` is called as `on_progress=` is."""
    calls = []

    with pytest.warns(FutureWarning, match="now called on_progress"):
        report.make(store, ["summary"], draw=False, told=lambda *step: calls.append(step))

    assert calls == [(0, 1, "summary"), (1, 1, "")]


def test_a_store_that_changes_meanwhile_is_said(store):
    """Every analysis reads for itself: what came in between is in some answers and not in
    others."""
    found = report.make(
        store,
        ["summary"],
        draw=False,
        on_progress=lambda *_: store.save_slice("meanwhile", "right"),
    )

    assert found.changed
    assert "the store changed while it was being read" in report.as_markdown(found)
