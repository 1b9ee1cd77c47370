"""Source of OTLP: spans as OpenTelemetry's file exporters, SDKs and collectors write them.

A file holds export requests as JSON, one a line or one in all, or as protobuf. Children are written
before their parents, and the spans of a trace may lie on many lines: a first pass over the lines
finds the last line of each trace, so that a trace is built, and forgotten, as soon as it is whole.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.errors import ImportFormatError
from workbench.records import AnyRecord
from workbench.sources import heads, json_bytes
from workbench.sources.report import FileReport
from workbench.sources.spans.span import Span, SpanEvent
from workbench.sources.spans.traces import TraceBuilder

NAME = "otlp"
NO_FILE = Path("OTLP")  # where requests come from that lie in no file
_TRACE_ID = re.compile(rb'"(?:traceId|trace_id)"\s*:\s*"([^"]{16,44})"')
_HEX = re.compile(r"[0-9a-fA-F]{16}(?:[0-9a-fA-F]{16})?")
_ERROR = {2, "2", "STATUS_CODE_ERROR", "Error", "ERROR"}
_DEPTH = 32  # of values within values


class _Value(msgspec.Struct, rename="camel"):
    """A value; one of the fields is set."""

    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: dict[str, Any] | None = None
    kvlist_value: dict[str, Any] | None = None
    bytes_value: str | None = None


class _KeyValue(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Event(msgspec.Struct, rename="camel"):
    name: str = ""
    time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] = []


class _Status(msgspec.Struct):
    code: int | str | None = None
    message: str = ""


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = ""
    name: str = ""
    start_time_unix_nano: int | str | None = None
    end_time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] = []
    events: list[_Event] = []
    status: _Status | None = None


class _Scope(msgspec.Struct):
    name: str = ""


class _ScopeSpans(msgspec.Struct, rename="camel"):
    scope: _Scope | None = None
    spans: list[_Span] = []


class _Resource(msgspec.Struct):
    attributes: list[_KeyValue] = []


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] = []
    instrumentation_library_spans: list[_ScopeSpans] = []  # before 2022


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] = []


_request = msgspec.json.Decoder(_Request)
_requests = msgspec.json.Decoder(list[_Request])


class Otlp:
    """Source of OTLP files, as JSON lines, one JSON document, or protobuf."""

    name = NAME
    title = "OTLP spans: OpenTelemetry, OpenInference, OpenLLMetry (.json, .jsonl, .pb)"

    def detect(self, path: Path) -> bool:
        """Return whether the file begins with an export request with spans."""
        start = heads.start(path)
        if start.lstrip()[:1] in {b"{", b"["}:
            head = start[:4096]
            return (b'"resourceSpans"' in head or b'"resource_spans"' in head) and bool(
                re.search(rb'"(?:scopeSpans|scope_spans|instrumentationLibrarySpans)"', start)
            )
        return _is_protobuf(path, start)

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield for each trace its run, task, configuration, item and trace.

        Raises:
            ImportFormatError: the file is truncated or not of this format.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        builder = TraceBuilder(self.name, path.name, report)
        start = heads.start(path).lstrip()[:1]
        if start not in {b"{", b"["}:
            yield from _built(builder, [spans_of_protobuf(path.read_bytes(), str(path))])
        elif (last := _last_lines(path)) is None:
            yield from _built(builder, [_whole(path, report)])
        else:
            yield from _streamed(path, last, builder, report)


SOURCE = Otlp()


def spans_of_json(data: bytes | memoryview, where: str, report: FileReport) -> Iterator[Span]:
    """Yield the spans of an export request in JSON.

    Raises:
        ImportFormatError: it is not one.
    """
    many = bytes(data[:64]).lstrip()[:1] == b"["
    if many:
        requests = json_bytes.decode(_requests, _camel(data), where, report)
    else:
        requests = [json_bytes.decode(_request, _camel(data), where, report)]
    for request in requests:
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes) if of_resource.resource else {}
            scopes = of_resource.scope_spans or of_resource.instrumentation_library_spans
            for of_scope in scopes:
                scope = of_scope.scope.name if of_scope.scope else ""
                for span in of_scope.spans:
                    if (read := _span(span, resource, scope, report)) is not None:
                        yield read


_SNAKE = re.compile(rb'"((?:[a-z]+_)+[a-z]+)"(\s*:)')
_FIELDS = (
    "resource_spans scope_spans instrumentation_library_spans trace_id span_id parent_span_id",
    "start_time_unix_nano end_time_unix_nano time_unix_nano",
    "string_value int_value double_value bool_value array_value kvlist_value bytes_value",
)
_SNAKE_NAMES = {
    name.encode(): re.sub("_([a-z])", lambda match: match[1].upper(), name).encode()
    for name in " ".join(_FIELDS).split()
}


def _camel(data: bytes | memoryview) -> bytes | memoryview:
    """Rewrite field names of protobuf's own JSON, which are written with underscores."""
    if b'"resource_spans"' not in bytes(data[:4096]):
        return data
    return _SNAKE.sub(lambda m: b'"%s"%s' % (_SNAKE_NAMES.get(m[1], m[1]), m[2]), bytes(data))


def _span(span: _Span, resource: dict[str, Any], scope: str, report: FileReport) -> Span | None:
    trace_id, span_id = _id(span.trace_id), _id(span.span_id)
    if not trace_id or not span_id:
        report.skip("spans without a trace id or span id", span.name[:60])
        return None
    error = None
    if span.status is not None and span.status.code in _ERROR:
        error = span.status.message or "error"
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_id(span.parent_span_id or ""),
        name=span.name,
        attributes=_attributes(span.attributes),
        resource=resource,
        scope=scope,
        start_ns=_ns(span.start_time_unix_nano),
        end_ns=_ns(span.end_time_unix_nano),
        error=error,
        events=[
            SpanEvent(event.name, _attributes(event.attributes), _ns(event.time_unix_nano))
            for event in span.events
        ],
    )


def _id(text: str) -> str:
    """Return an id in hexadecimal; protobuf's own JSON writes ids in base64."""
    if _HEX.fullmatch(text):
        return "" if not text.strip("0") else text.lower()
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return data.hex() if len(data) in {8, 16} and any(data) else ""


def _ns(value: int | str | None) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) <= 20 else None
    return value or None


def _attributes(pairs: list[_KeyValue]) -> dict[str, Any]:
    attributes = {}
    for pair in pairs:
        value = pair.value
        if value is None:
            continue
        if value.string_value is not None:
            attributes[pair.key] = value.string_value
        else:
            attributes[pair.key] = _other(value)
    return attributes


def _other(value: _Value) -> Any:
    if value.int_value is not None:
        number = value.int_value
        return int(number) if isinstance(number, str) and _is_int(number) else number
    if value.bool_value is not None:
        return value.bool_value
    if value.double_value is not None:
        return _double(value.double_value)
    if value.array_value is not None:
        return [_plain(v, 0) for v in _list(value.array_value.get("values"))]
    if value.kvlist_value is not None:
        return _pairs(value.kvlist_value.get("values"), 0)
    return value.bytes_value


def _is_int(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) <= 20


def _double(value: float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _plain(value: Any, depth: int) -> Any:
    """Return a value within another one."""
    if not isinstance(value, dict) or depth > _DEPTH or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "intValue" and isinstance(inner, str):
        return int(inner) if _is_int(inner) else inner
    if kind == "arrayValue":
        return [_plain(v, depth + 1) for v in _list(_field(inner, "values"))]
    return _pairs(_field(inner, "values"), depth + 1) if kind == "kvlistValue" else inner


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _pairs(values: Any, depth: int) -> dict[str, Any]:
    return {
        pair["key"]: _plain(pair.get("value"), depth)
        for pair in _list(values)
        if isinstance(pair, dict) and isinstance(pair.get("key"), str)
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- files -------------------------------------------------------------------------------------


def _last_lines(path: Path) -> dict[bytes, int] | None:
    """Return the number of the last line of each trace; None if the file is one document."""
    last: dict[bytes, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number == 0 and not _is_request(line):
                return None
            for trace_id in _TRACE_ID.findall(line):
                last[trace_id] = number
    return last


def _is_request(line: bytes) -> bool:
    """Whether a first line is a whole export request, not the beginning of a longer document."""
    try:
        _request.decode(_camel(line.removeprefix(b"\xef\xbb\xbf")))
    except UNDECODABLE:
        return False
    return True


def _streamed(
    path: Path, last: dict[bytes, int], builder: TraceBuilder, report: FileReport
) -> Iterator[AnyRecord]:
    whole_at: dict[int, set[str]] = {}
    for raw, number in last.items():
        whole_at.setdefault(number, set()).add(_id(raw.decode("ascii", "replace")))
    open_traces: dict[str, list[Span]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file):
            request = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not request:
                continue
            for span in spans_of_json(request, f"{path}, line {number + 1}", report):
                open_traces.setdefault(span.trace_id, []).append(span)
            for trace_id in whole_at.get(number, ()):
                if (spans := open_traces.pop(trace_id, None)) is not None:
                    yield from builder.records(spans)
    for spans in open_traces.values():
        yield from builder.records(spans)


def _whole(path: Path, report: FileReport) -> list[Span]:
    return list(spans_of_json(json_bytes.document(path), str(path), report))


def _built(builder: TraceBuilder, parts: list[list[Span]]) -> Iterator[AnyRecord]:
    by_trace: dict[str, list[Span]] = {}
    for spans in parts:
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
    for spans in by_trace.values():
        yield from builder.records(spans)


# -- protobuf ----------------------------------------------------------------------------------


def _is_protobuf(path: Path, start: bytes) -> bool:
    """Whether a file is an export request in protobuf: field 1, whose parts have sensible ends."""
    if start[:1] != b"\x0a" or path.suffix.lower() not in {".pb", ".bin", ".otlp", ".proto"}:
        return False
    try:
        return bool(spans_of_protobuf(path.read_bytes(), str(path)))
    except ImportFormatError:
        return False


def spans_of_protobuf(data: bytes, where: str) -> list[Span]:
    """Return the spans of an export request in protobuf.

    Raises:
        ImportFormatError: it is not one.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise ImportFormatError(f"{where} is no export request of OTLP: {error}") from error
    spans = []
    for of_resource in request.resource_spans:
        resource = _from_proto(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            spans += [
                _span_from_proto(span, resource, of_scope.scope.name)
                for span in of_scope.spans
                if any(span.trace_id) and any(span.span_id)
            ]
    return spans


def _span_from_proto(span: Any, resource: dict[str, Any], scope: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() if any(span.parent_span_id) else "",
        name=span.name,
        attributes=_from_proto(span.attributes),
        resource=resource,
        scope=scope,
        start_ns=span.start_time_unix_nano or None,
        end_ns=span.end_time_unix_nano or None,
        error=(span.status.message or "error") if span.status.code == 2 else None,
        events=[
            SpanEvent(event.name, _from_proto(event.attributes), event.time_unix_nano or None)
            for event in span.events
        ],
    )


def _from_proto(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value_from_proto(pair.value, 0) for pair in pairs}


def _value_from_proto(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > _DEPTH:
        return None
    if kind == "array_value":
        return [_value_from_proto(v, depth + 1) for v in value.array_value.values]
    if kind == "kvlist_value":
        return {p.key: _value_from_proto(p.value, depth + 1) for p in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)
