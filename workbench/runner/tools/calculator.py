"""Tool `calculator`: exact arithmetic by a grammar of its own; nothing is evaluated as code.

    sum     = product (("+" | "-") product)*
    product = sign (("*" | "/" | "//" | "%") sign)*
    sign    = ("+" | "-") sign | power
    power   = atom (("^" | "**") sign)?
    atom    = number | constant | name "(" sum ("," sum)* ")" | "(" sum ")"

Values are fractions of whole numbers of bounded size; a root that is not rational is rounded to 30
digits.
"""

import decimal
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from workbench.runner.providers.protocol import ToolSpec
from workbench.runner.tools.base import Example, ToolResult

_MOST_BITS = 4_096  # of a numerator or a denominator: 1,233 digits
_MOST_DEPTH = 60
_MOST_TERMS = 50  # arguments of one function
_DIGITS = 30
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:_?\d+)*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?)"
    r"|(?P<name>[A-Za-z]\w*)|(?P<sign>\*\*|//|[-+*/%^(),]))"
)
_FOLDED = str.maketrans({"\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"})


class _Wrong(ValueError):
    """The expression has no value; the message is for the model."""


class Calculator:
    """Works out one expression."""

    timeout_s: ClassVar[float] = 10.0
    spec: ClassVar[ToolSpec] = ToolSpec(
        "calculator",
        "Work out an arithmetic expression exactly. It knows + - * / // % ^, parentheses, and"
        " sqrt, abs, min, max, round, floor, ceil, gcd, lcm, factorial, comb. Roots that do not"
        " end are rounded to 30 digits.",
        {
            "type": "object",
            "required": ["expression"],
            "additionalProperties": False,
            "properties": {
                "expression": {
                    "type": "string",
                    "maxLength": 500,
                    "description": "the expression, for example (17 + 4) * 23",
                },
            },
        },
    )
    example: ClassVar[Example] = Example(
        "What is 17 times 23, less 6?",
        "I should work this out with the calculator.",
        {"expression": "17 * 23 - 6"},
        "385",
    )

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Work out the expression; error "no_value" where it has none."""
        try:
            return ToolResult(shown(evaluate(arguments["expression"])))
        except _Wrong as error:
            return ToolResult(f"Error: {error}.", "no_value")


def evaluate(expression: str) -> Fraction:
    """Return the value of an expression; ValueError says what is wrong with it.

    >>> evaluate("2 ^ 10 / 3")
    Fraction(1024, 3)
    """
    parser = _Parser(expression.translate(_FOLDED))
    value = parser.sum()
    parser.expect_end()
    return value


def shown(value: Fraction) -> str:
    """Write a value: whole, as a decimal that ends, or rounded with its fraction beside it."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    with decimal.localcontext(prec=_DIGITS) as context:
        quotient = decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)
        if rest == 1 and not context.flags[decimal.Inexact]:
            return format(quotient.normalize(), "f") if abs(quotient) > 1e-9 else str(quotient)
        text = format(quotient, ".15g")
    fraction = str(value)
    return f"{text} (rounded)" if len(fraction) > 60 else f"{text} (rounded; exactly {fraction})"


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise _Wrong("the numbers get too large")
    return value


class _Parser:
    """Reads an expression from left to right and works it out on the way."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.depth = self.place = 0
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise _Wrong(f"{text[at : at + 20].strip()!r} cannot be read here")
            self.tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            at = match.end()
        if not self.tokens:
            raise _Wrong("the expression is empty")

    def next(self, *signs: str) -> str | None:
        """Take the next token if it is one of these signs."""
        if self.place < len(self.tokens) and self.tokens[self.place] in {
            ("sign", s) for s in signs
        }:
            self.place += 1
            return self.tokens[self.place - 1][1]
        return None

    def expect_end(self) -> None:
        """Refuse what is left over."""
        if self.place < len(self.tokens):
            symbol = self.tokens[self.place][1]
            hint = "; write numbers without separators" if symbol == "," else ""
            raise _Wrong(f"{symbol!r} is not expected there{hint}")

    def sum(self) -> Fraction:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise _Wrong("the expression is nested too deeply")
        value = self._product()
        while sign := self.next("+", "-"):
            other = self._product()
            value = _bounded(value + other if sign == "+" else value - other)
        self.depth -= 1
        return value

    def _product(self) -> Fraction:
        value = self._sign()
        while sign := self.next("*", "/", "//", "%"):
            other = self._sign()
            if sign != "*" and other == 0:
                raise _Wrong("division by zero")
            value = _bounded(_PRODUCTS[sign](value, other))
        return value

    def _sign(self) -> Fraction:
        negative = False
        while sign := self.next("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Fraction:
        base = self._atom()
        if not self.next("^", "**"):
            return base
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise _Wrong("the expression is nested too deeply")
        exponent = self._sign()
        self.depth -= 1
        return _power(base, exponent)

    def _atom(self) -> Fraction:
        if self.next("("):
            value = self.sum()
            self._close()
            return value
        if self.place >= len(self.tokens):
            raise _Wrong("the expression ends too early")
        kind, text = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            return _bounded(Fraction(text.replace("_", "")))
        if kind == "name":
            return self._call(text)
        raise _Wrong(f"{text!r} is not expected there")

    def _call(self, name: str) -> Fraction:
        function = _FUNCTIONS.get(name.lower())
        if function is None:
            raise _Wrong(f"there is no function {name[:40]!r}; there are {', '.join(_FUNCTIONS)}")
        if not self.next("("):
            raise _Wrong(f"{name} needs parentheses")
        values = [self.sum()]
        while self.next(",") and len(values) < _MOST_TERMS:
            values.append(self.sum())
        self._close()
        try:
            return _bounded(function(*values))
        except TypeError:
            raise _Wrong(f"{name} does not take {len(values)} numbers") from None

    def _close(self) -> None:
        if not self.next(")"):
            raise _Wrong("a closing parenthesis is missing")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        if exponent == Fraction(1, 2):
            return _root(base)
        raise _Wrong("an exponent must be a whole number, or 1/2")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in {0, 1, -1} and abs(exponent) * (size - 1) > _MOST_BITS:
        raise _Wrong("the numbers get too large")
    if base == 0 and exponent < 0:
        raise _Wrong("division by zero")
    if base == -1:
        return base if exponent % 2 else Fraction(1)
    return base if base in {0, 1} and exponent else _bounded(base ** int(exponent))


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise _Wrong("a negative number has no square root here")
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if above**2 == value.numerator and below**2 == value.denominator:
        return Fraction(above, below)
    with decimal.localcontext(prec=_DIGITS):
        return Fraction((decimal.Decimal(value.numerator) / value.denominator).sqrt())


def _whole(*values: Fraction) -> list[int]:
    if any(v.denominator != 1 for v in values):
        raise _Wrong("whole numbers are needed")
    return [int(v) for v in values]


def _round(value: Fraction, digits: Fraction = Fraction(0)) -> Fraction:
    """Round halves away from zero, as people do."""
    places = _whole(digits)[0]
    if abs(places) > 100:
        raise _Wrong("that is too many digits")
    scaled = abs(value) * Fraction(10) ** places
    rounded = Fraction(math.floor(scaled + Fraction(1, 2))) / Fraction(10) ** places
    return rounded if value >= 0 else -rounded


def _factorial(value: Fraction) -> Fraction:
    n = _whole(value)[0]
    if not 0 <= n <= 400:
        raise _Wrong("factorial takes 0 to 400")
    return Fraction(math.factorial(n))


def _comb(n: Fraction, k: Fraction) -> Fraction:
    above, below = _whole(n, k)
    if not (0 <= above <= 4000 and 0 <= below <= 4000):
        raise _Wrong("comb takes numbers from 0 to 4000")
    return Fraction(math.comb(above, below))


_PRODUCTS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: Fraction(a // b),
    "%": lambda a, b: a % b,
}
_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "sqrt": _root,
    "abs": abs,
    "min": lambda *v: min(v),
    "max": lambda *v: max(v),
    "round": _round,
    "floor": lambda v: Fraction(math.floor(v)),
    "ceil": lambda v: Fraction(math.ceil(v)),
    "gcd": lambda *v: Fraction(math.gcd(*_whole(*v))),
    "lcm": lambda *v: Fraction(math.lcm(*_whole(*v))),
    "factorial": _factorial,
    "comb": _comb,
}
