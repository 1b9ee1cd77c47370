"""Spans of OpenTelemetry and of the tools that write trees of spans."""
