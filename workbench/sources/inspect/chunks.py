"""Samples of an Inspect `.eval` file in chunks: one short member, and members with long parts.

Inspect writes large samples in this way: `samples/{id}_epoch_{n}/sample.json` (the shell) lacks
messages, events, attachments and metadata. They are in further members, the chunks, which are
numbered by the position of their first entry. An id may contain slashes, so that a sample is
recognised by the end of its member's name.
"""

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from workbench.errors import ImportFormatError
from workbench.sources import json_bytes
from workbench.sources.inspect.log_zip import Archive
from workbench.sources.report import FileReport

T = TypeVar("T")

_SAMPLES = "samples/"
_WHOLE_SAMPLE = re.compile(r"samples/.*_epoch_\d+\.json", re.DOTALL)
_SHELL = re.compile(r"(samples/.*_epoch_\d+/)sample\.json", re.DOTALL)
_SEQUENCE = re.compile(r"(messages|events|calls|attachments)/(\d+)\.json")
_SAMPLE_MEMBERS = {
    "metadata.json",
    "skeleton.json",
    "events/stats.json",
    "events/uuids.json",
    "sample.json",
}
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_REFS = msgspec.json.Decoder(list[tuple[int, int]])


class Members:
    """The samples among an archive's members, in the order they were written.

    Attributes:
        names: one member per sample: the complete sample, or its shell.
        other_members: members in the samples' folder that are part of no sample.
    """

    def __init__(self, archive: Archive) -> None:
        """Sort the members by name: complete samples, shells, chunks, others."""
        self._archive = archive
        sample_members = [
            n for n in archive.members if n.startswith(_SAMPLES) and n.endswith(".json")
        ]
        shells = (match[1] for n in sample_members if (match := _SHELL.fullmatch(n)))
        self._parts: dict[str, list[str]] = {prefix: [] for prefix in shells}
        self.names: list[str] = []
        self.other_members: list[str] = []
        for name in sample_members:
            prefix = self._prefix(name)
            if _WHOLE_SAMPLE.fullmatch(name) or (
                prefix is not None and name == f"{prefix}sample.json"
            ):
                self.names.append(name)
            if prefix is not None:
                self._parts[prefix].append(name)
            elif not _WHOLE_SAMPLE.fullmatch(name):
                self.other_members.append(name)

    def _prefix(self, name: str) -> str | None:
        """Return the prefix of the chunked sample that a member is part of."""
        end = len(name)
        while (end := name.rfind("/", 0, end)) > 0:
            prefix = name[: end + 1]
            rest = name[end + 1 :]
            if prefix in self._parts and (rest in _SAMPLE_MEMBERS or _SEQUENCE.fullmatch(rest)):
                return prefix
        return None

    def read(self, name: str, report: FileReport) -> bytes:
        """Return a sample as one JSON document, assembled if it is in chunks.

        Args:
            name: one of `names`.
            report: gets the notes of `json_bytes.decode`.

        Raises:
            ImportFormatError: a member is damaged, or a chunk is missing.
        """
        prefix = name.removesuffix("sample.json")
        if prefix not in self._parts:
            return self._archive.read(name)
        return _ChunkedSample(self._archive, prefix, self._parts[prefix], report).document()


class _ChunkedSample:
    """One sample in chunks."""

    def __init__(self, archive: Archive, prefix: str, names: list[str], report: FileReport) -> None:
        self._archive = archive
        self._prefix = prefix
        self._names = names
        self._report = report

    def document(self) -> bytes:
        prefix = self._prefix
        shell = self._read(_FIELDS, f"{prefix}sample.json")
        sample: dict[str, Any] = dict(shell.items())
        messages = list(self._sequence("messages"))
        refs = _REFS.decode(sample.pop("message_refs", b"[]"))
        sample |= {
            "messages": [m for start, end in refs for m in messages[start:end]],
            "events": list(self._sequence("events")),
            "events_data": {"messages": messages},
            "attachments": {str(n): text for n, text in enumerate(self._sequence("attachments"))},
        }
        if f"{prefix}metadata.json" in self._names:
            sample["metadata"] = self._read(_FIELDS, f"{prefix}metadata.json")
        return msgspec.json.encode(sample)

    def _read(self, decoder: msgspec.json.Decoder[T], name: str) -> T:
        where = f"{self._archive.path}, member {name}"
        return json_bytes.decode(decoder, self._archive.read(name), where, self._report)

    def _sequence(self, sequence: str) -> Iterator[msgspec.Raw]:
        """Yield the entries of a sequence, chunk by chunk."""
        starts = sorted(
            (int(match[2]), name)
            for name in self._names
            if (match := _SEQUENCE.fullmatch(name.removeprefix(self._prefix)))
            and match[1] == sequence
        )
        n_read = 0
        for start, name in starts:
            if start != n_read:
                raise ImportFormatError(
                    f"{self._archive.path}: {self._prefix}{sequence} lacks its entries {n_read} to "
                    f"{start - 1}; copy the log again"
                )
            entries = self._read(_RAWS, name)
            yield from entries
            n_read += len(entries)
