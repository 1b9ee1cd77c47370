"""Tool `search`: finds documents of the corpus that ships, by BM25."""

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from workbench import datasets
from workbench.runner.providers.protocol import ToolSpec
from workbench.runner.tools.base import Example, ToolResult

_K1, _B = 1.2, 0.75  # Robertson and Zaragoza 2009, §3.4
_SNIPPET = 400  # characters
_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    (
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "did",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "in",
        "is",
        "it",
        "its",
        "many",
        "of",
        "on",
        "or",
        "that",
        "the",
        "to",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "with",
    )
)


class Document(msgspec.Struct, frozen=True):
    """A document of the corpus."""

    document: str
    title: str
    text: str


class Index:
    """An inverted index of some documents.

    The score of a document is Σ over the query's words of idf · tf·(k₁+1) / (tf + k₁·(1 − b +
    b·length/mean)) with idf = ln(1 + (N − n + ½)/(n + ½)) (Robertson and Zaragoza 2009, eq. 3.15,
    with the 1 that keeps it positive); a word of the title counts as one of the text. Equal scores
    keep the order of the corpus.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        """Count the words."""
        self.documents = documents
        counts = [Counter(words(f"{d.title} {d.text}")) for d in documents]
        self.lengths = [sum(count.values()) for count in counts]
        self.mean = sum(self.lengths) / max(len(documents), 1)
        self.places: dict[str, list[tuple[int, int]]] = {}
        for place, count in enumerate(counts):
            for word, n in count.items():
                self.places.setdefault(word, []).append((place, n))

    def find(self, query: str, k: int) -> list[tuple[Document, float]]:
        """Return the k best documents that share a word, with scores, the best first."""
        scores: dict[int, float] = {}
        for word in dict.fromkeys(words(query)):
            postings = self.places.get(word, [])
            idf = math.log(1 + (len(self.documents) - len(postings) + 0.5) / (len(postings) + 0.5))
            for place, n in postings:
                norm = _K1 * (1 - _B + _B * self.lengths[place] / self.mean)
                scores[place] = scores.get(place, 0.0) + idf * n * (_K1 + 1) / (n + norm)
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        return [(self.documents[place], score) for place, score in best]


def words(text: str) -> list[str]:
    """Split a text into words in lower case, without those that every text has."""
    return [w for w in map(str.casefold, _WORD.findall(text)) if w not in _STOP]


@functools.cache
def corpus() -> Index:
    """Read the corpus that ships."""
    return read(datasets.data_dir() / "tools" / "corpus.jsonl")


def read(path: Path) -> Index:
    """Index a file of documents, one a line: {"document", "title", "text"}."""
    lines = path.read_bytes().splitlines()
    return Index([msgspec.json.decode(line, type=Document) for line in lines if line.strip()])


class Search:
    """Searches the corpus."""

    timeout_s: ClassVar[float] = 10.0
    spec: ClassVar[ToolSpec] = ToolSpec(
        "search",
        "Search the documents about the Corran Isles: their islands, towns, people, lighthouses,"
        " bridges, firms and feasts. Returns the documents that fit best.",
        {
            "type": "object",
            "required": ["query"],
            "additionalProperties": False,
            "properties": {
                "query": {
                    "type": "string",
                    "maxLength": 300,
                    "description": "names and other words to look for",
                },
                "k": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 10,
                    "description": "how many documents to return; 3 if left out",
                },
            },
        },
    )
    example: ClassVar[Example] = Example(
        "Who designed the Teslund Bridge?",
        "I should search for the bridge.",
        {"query": "Teslund Bridge designer", "k": 1},
        "Cito Maenlund",
    )

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """List titles and texts, the best first."""
        documents = corpus().find(arguments["query"], arguments.get("k", 3))
        if not documents:
            return ToolResult("No document has any of these words.")
        return ToolResult(
            "\n".join(f"[{d.document}] {d.title}: {_snippet(d.text)}" for d, _ in documents)
        )


def _snippet(text: str) -> str:
    return text if len(text) <= _SNIPPET else f"{text[:_SNIPPET]}…"
