"""Run controls: windows to confirm a command, and to change the limits of a live run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from workbench.safe import safe

if TYPE_CHECKING:
    from workbench.runner.control.protocol import Retune, RunState

NONE = "none"
# units of amounts that are typed; FIELDS: name in `Retune` → label, meaning
_UNITS = {"budget_usd": "USD", "budget_j": "J", "budget_time_s": "s", "timeout_s": "s"}
FIELDS = {
    "concurrency": ("at once", "attempts and calls"),
    "budget_usd": ("dollars", "of this launch"),
    "budget_tokens": ("tokens", "in and out"),
    "budget_j": ("joules", "by the meters"),
    "budget_time_s": ("seconds", "no attempt starts after"),
    "retries": ("retries", "of a failed request"),
    "timeout_s": ("timeout", "seconds per request"),
}


class ConfirmScreen(ModalScreen[bool]):
    """Window that asks to confirm a command; y confirms."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, question: str) -> None:
        super().__init__()
        self._title, self._question = title, question

    def compose(self) -> ComposeResult:
        """Write the question."""
        with Vertical(classes="window") as window:
            window.border_title = self._title
            window.border_subtitle = "y yes · esc no"
            yield Static(safe(self._question, lines=True), markup=False)

    def action_answer(self, yes: bool) -> None:
        """Return the answer."""
        self.dismiss(yes)


class RetuneScreen(ModalScreen["Retune | None"]):
    """Form of the limits of a run; only changed limits are sent."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "close", show=False),
        Binding("down", "app.focus_next", "next", show=False),
        Binding("up", "app.focus_previous", "before", show=False),
    ]

    def __init__(self, state: "RunState") -> None:
        super().__init__()
        self._present = limits_of(state)

    def compose(self) -> ComposeResult:
        """Build a line for each limit, with its present value."""
        known = bounds()
        with Vertical(classes="window") as window:
            window.border_title = "limits of the run"
            window.border_subtitle = "enter sets what was changed · esc closes"
            for name, (title, meaning) in FIELDS.items():
                yield Horizontal(
                    Label(title, markup=False),
                    Input(self._present[name], name=name, compact=True, max_length=20),
                    Label(f"{meaning}; {known[name][1]}", classes="help", markup=False),
                    classes="field",
                )
            yield Static(id="status", markup=False)

    def on_input_submitted(self) -> None:
        """Return the command that changes the limits, or show which limit is not valid."""
        typed = {field.name or "": field.value.strip() for field in self.query(Input)}
        try:
            command = changed(self._present, typed)
        except ValueError as fault:
            status = self.query_one("#status", Static)
            status.set_class(True, "-fault")
            status.update(safe(str(fault)))
            return
        self.dismiss(command)

    def action_leave(self) -> None:
        """Close the form without a result."""
        self.dismiss(None)


def limits_of(state: "RunState") -> dict[str, str]:
    """Write the present limits of a run; a budget that it lacks is "none"."""
    values = {name: getattr(state, name, None) for name in FIELDS}
    values["concurrency"] = state.concurrency_cap
    return {name: NONE if value is None else f"{value:.12g}" for name, value in values.items()}


def changed(present: Mapping[str, str], typed: Mapping[str, str]) -> "Retune | None":
    """Return the command for the limits that differ from the present ones; None if none does.

    Raises:
        ValueError: a limit is not valid; the message names it and the values it accepts.
    """
    import msgspec

    from workbench.runner.control.protocol import BUDGETS, Retune

    new = {name: text for name, text in typed.items() if text != present[name]}
    if not new:
        return None
    lift = [name for name, text in new.items() if name in BUDGETS and text in {NONE, ""}]
    fields: dict[str, Any] = {n: _number(n, text) for n, text in new.items() if n not in lift}
    for name, value in fields.items():
        try:
            msgspec.convert({"command": "set", name: value}, Retune)
        except msgspec.ValidationError:
            raise _refusal(name, new[name]) from None
    return msgspec.convert({"command": "set", "lift": lift, **fields}, Retune)


def _number(name: str, text: str) -> float:
    """Parse an amount; a whole number is an int."""
    from workbench.slice.fields import amount

    try:
        value = amount(text, FIELDS[name][0], _UNITS.get(name, "count"))
    except ValueError:
        raise _refusal(name, text) from None
    return int(value) if value.is_integer() else value


def _refusal(name: str, text: str) -> ValueError:
    whole, ends = bounds()[name]
    wanted = f"a {'whole ' if whole else ''}number, {ends}"
    return ValueError(f"{FIELDS[name][0]}: {text!r} is not valid; write {wanted}")


def bounds() -> dict[str, tuple[bool, str]]:
    """Return for each limit whether it is a whole number, and its range as text."""
    import msgspec

    from workbench.runner.control.protocol import BUDGETS, Retune

    kind: Any = msgspec.inspect.type_info(Retune)
    ranges = {}
    for field in kind.fields:
        if field.name in FIELDS:
            number = next(t for t in field.type.types if hasattr(t, "ge"))
            ends = f"above {number.gt:,}" if number.ge is None else f"from {number.ge:,} on"
            if number.le is not None:
                ends = f"{number.ge:,} to {number.le:,}"
            none = f", or {NONE}" if field.name in BUDGETS else ""
            ranges[field.name] = (isinstance(number, msgspec.inspect.IntType), ends + none)
    return ranges
