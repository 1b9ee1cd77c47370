"""Tool `python`: runs a script in the sandbox; there is none without the sandbox."""

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from workbench import sandbox
from workbench.errors import ConfigError
from workbench.runner.providers.protocol import ToolSpec
from workbench.runner.tools.base import Example, ToolResult

_RUN_S = 10.0
_MEMORY_MB = 256
_ERROR_LINES = 6


class Python:
    """Runs a script and shows what it printed."""

    timeout_s: ClassVar[float] = _RUN_S + 20.0
    spec: ClassVar[ToolSpec] = ToolSpec(
        "python",
        "Run a Python script with the standard library, and read what it prints. Every script"
        " starts anew; there is no network.",
        {
            "type": "object",
            "required": ["code"],
            "additionalProperties": False,
            "properties": {
                "code": {
                    "type": "string",
                    "maxLength": 20_000,
                    "description": "the script; print what you want to see",
                },
            },
        },
    )
    example: ClassVar[Example] = Example(
        "How many whole numbers from 1 to 500 are divisible by 7 or by 11?",
        "I should count them with a script.",
        {"code": "print(sum(n % 7 == 0 or n % 11 == 0 for n in range(1, 501)))"},
        "110",
    )

    def __init__(self) -> None:
        """Refuse at once where code cannot be run safely."""
        if (reason := sandbox.why_not()) is not None:
            raise ConfigError(f"the tool python needs a sandbox, and there is none: {reason}")

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Return the output and how it ended; error "exit" (failed), "timeout" or "output"."""
        ran = await asyncio.to_thread(
            sandbox.run_python, arguments["code"], timeout_s=_RUN_S, memory_mb=_MEMORY_MB
        )
        parts = [ran.stdout.rstrip()] if ran.stdout.strip() else []
        if ran.truncated:
            parts.append("[more was printed than is kept]")
        if ran.stderr.strip():
            parts.append("\n".join(ran.stderr.rstrip().splitlines()[-_ERROR_LINES:]))
        error = "timeout" if ran.timed_out else ran.limit or ("exit" if ran.exit_status else None)
        if error:
            why = f"after {_RUN_S:g} seconds" if ran.timed_out else f"with status {ran.exit_status}"
            parts.append(f"[the script ended {why}]")
        return ToolResult("\n".join(parts) or "(nothing was printed)", error)
