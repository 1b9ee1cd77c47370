"""Write the task sets of this folder: `python data/tasks/generate.py [--output FOLDER]`.

Every item is our own, built from a template, `vocabulary.toml` and dice with a fixed seed, so that
the same script writes the same bytes. Items come in rounds of the five difficulties: the first n
items of a set are balanced. The worked examples of a set are never among its items.
"""

import argparse
import datetime as dt
import json
import sys
import tomllib
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SEED = 2026
PER_LEVEL = 20
VERSION = "1"
Fields = dict[str, Any]
WORDS: Fields = tomllib.loads((HERE / "vocabulary.toml").read_text(encoding="utf-8"))
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


class Dice:
    """Draws that stay the same across versions.

    NumPy promises the raw stream of a bit generator.
    """

    def __init__(self, *seed: int) -> None:
        """Seed the stream."""
        self._bits = np.random.PCG64(list(seed))

    def between(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def pick(self, values: Sequence[Any]) -> Any:
        """Draw one value."""
        return values[self.between(0, len(values) - 1)]

    def some(self, values: Sequence[Any], n: int) -> list[Any]:
        """Draw n different values, in random order."""
        pool = list(values)
        return [pool.pop(self.between(0, len(pool) - 1)) for _ in range(n)]


def item(cluster: str, question: str, target: object, **more: Any) -> Fields:
    """Put the fields of an item together."""
    return {"cluster": cluster, "input": question, "target": str(target), **more}


# ---- multi-step arithmetic
# ------------------------------------------------------------------------


def arithmetic(dice: Dice, level: int) -> Fields:
    """From a single sum to a story of three steps."""
    a, b, c = dice.between(2, 9), dice.between(2, 9), dice.between(2, 9)
    name, thing = dice.pick(WORDS["names"]), dice.pick(WORDS["things"])
    if level == 1:
        a, b = dice.between(1, 6), dice.between(1, 5)
        return item("sum", f"What is {a} + {b}?", a + b)
    if level == 2:
        if dice.between(0, 1):
            return item("sum-round", f"What is {10 * a} + {b}?", 10 * a + b)
        return item("difference", f"What is {a + b} - {b}?", a)
    if level == 3:
        text = f"{name} has {a} {thing} and buys {b} more."
        return item("story-1", f"{text} How many {thing} does {name} have?", a + b)
    many = dice.pick(WORDS["boxes"])
    if level == 4:
        text = f"{name} has {a + c} {thing}, buys {b} more and gives away {c}."
        return item("story-2", f"{text} How many {thing} are left?", a + b)
    other, each = dice.between(3, 8), dice.between(2, 5)
    text = (
        f"{name} fills {b} {many} with {a} {thing} each, takes {c} {thing} out again,"
        f" and then buys {other} packs of {each} {thing}."
    )
    return item("story-3", f"{text} How many {thing} are there now?", a * b - c + other * each)


# ---- counting and string manipulation
# -------------------------------------------------------------


def strings(dice: Dice, level: int) -> Fields:
    """From two words joined to a word backwards."""
    if level == 1:
        a, b = dice.pick(WORDS["compounds"])
        return item("join", f"Join {a} and {b} into one word.", a + b)
    if level == 2:
        words = dice.some(WORDS["short"], 3)
        rank = dice.between(0, 2)
        ask = (
            f"Which word is {('first', 'second', 'third')[rank]} in this list: {', '.join(words)}?"
        )
        return item("n-th-word", ask, words[rank])
    if level == 3:
        word = dice.pick(WORDS["short"] + WORDS["medium"])
        if dice.between(0, 1):
            return item("first-letter", f"What is the first letter of the word {word}?", word[0])
        ask = f"How many letters does the word {word} have?"
        return item("length", ask, len(word), scorer="numeric")
    return harder_strings(dice, level)


def harder_strings(dice: Dice, level: int) -> Fields:
    """Count a letter in a word (4); write a word otherwise (5)."""
    if level == 4:
        word = dice.pick(WORDS["long"])
        letter = dice.pick(sorted(set(word)))
        ask = f"How many times does the letter {letter} occur in the word {word}?"
        return item("count-letter", ask, word.count(letter), scorer="numeric")
    word = dice.pick(WORDS["short"] + WORDS["medium"])
    if dice.between(0, 1):
        return item("reverse", f"Write the word {word} backwards.", word[::-1])
    return item("drop-first", f"Write the word {word} without its first letter.", word[1:])


# ---- small logic puzzles
# --------------------------------------------------------------------------


def choose(dice: Dice, cluster: str, question: str, right: str, wrong: Sequence[str]) -> Fields:
    """Make a multiple choice whose right option stands anywhere."""
    options = dice.some([right, *wrong], len(wrong) + 1)
    return item(cluster, question, "ABCD"[options.index(right)], choices=options)


def logic(dice: Dice, level: int) -> Fields:
    """From one comparison to who tells the truth."""
    a, b, c, d = dice.some(WORDS["names"], 4)
    more, least = dice.pick([("taller", "shortest"), ("older", "youngest"), ("faster", "slowest")])
    if level == 1:
        return choose(dice, "compare-2", f"{a} is {more} than {b}. Who is {more}?", a, [b])
    if level == 2:
        home, other = dice.some(list(WORDS["groups"]), 2)
        odd = dice.pick(WORDS["groups"][other])
        rest = dice.some(WORDS["groups"][home], 3)
        return choose(dice, "odd-one-out", "Which word does not belong with the others?", odd, rest)
    if level == 3:
        said = dice.some([f"{a} is {more} than {b}.", f"{b} is {more} than {c}."], 2)
        return choose(dice, "order-3", f"{' '.join(said)} Who is the {least}?", c, [a, b])
    if level == 4:
        sort, kind, does = dice.pick(WORDS["kinds"])
        ways = [
            (
                f"All {sort} are {kind}. All {kind} {does}. Does it follow that all {sort} {does}?",
                "Yes",
            ),
            (f"All {sort} are {kind}. Does it follow that all {kind} are {sort}?", "No"),
            (f"Some {kind} are {sort}. Does it follow that some {sort} are {kind}?", "Yes"),
        ]
        question, answer = dice.pick(ways)
        return choose(dice, "follows", question, answer, ["No" if answer == "Yes" else "Yes"])
    said = dice.some(
        [f"{a} is {more} than {b}.", f"{b} is {more} than {c}.", f"{d} is {more} than {a}."], 3
    )
    return choose(dice, "order-4", f"{' '.join(said)} Who is the {least}?", c, [a, b, d])


# ---- dates and units
# ------------------------------------------------------------------------------

UNITS = (
    ("minutes", "hours", 60),
    ("seconds", "minutes", 60),
    ("hours", "days", 24),
    ("days", "weeks", 7),
    ("months", "years", 12),
    ("centimetres", "metres", 100),
    ("metres", "kilometres", 1000),
    ("grams", "kilograms", 1000),
    ("millimetres", "centimetres", 10),
)


def dates(dice: Dice, level: int) -> Fields:
    """From the day after Monday to a date in the next month."""
    day, month = dice.between(0, 6), dice.between(0, 11)
    if level == 1:
        if dice.between(0, 1):
            return item("day-after", f"Which day comes after {DAYS[day]}?", DAYS[(day + 1) % 7])
        return item(
            "month-after", f"Which month comes after {MONTHS[month]}?", MONTHS[(month + 1) % 12]
        )
    if level == 2:
        small, large, factor = dice.pick(UNITS)
        n = dice.between(2, 5)
        return item(
            "convert", f"How many {small} are in {n} {large}?", n * factor, scorer="numeric"
        )
    if level == 3:
        if dice.between(0, 1):
            return item("day-before", f"Which day comes before {DAYS[day]}?", DAYS[day - 1])
        return item("month-before", f"Which month comes before {MONTHS[month]}?", MONTHS[month - 1])
    return dates_on(dice, level)


def dates_on(dice: Dice, level: int) -> Fields:
    """Count days on from a day of the week (4) or from a date (5)."""
    day, month = dice.between(0, 6), dice.between(0, 11)
    if level == 4:
        n = dice.between(2, 5)
        ask = f"Today is {DAYS[day]}. Which day will it be in {n} days?"
        return item("days-on", ask, DAYS[(day + n) % 7])
    start = dt.date(dice.between(2021, 2027), month + 1, dice.between(1, 27))
    n = dice.between(2, 9)
    end = start + dt.timedelta(days=n)
    ask = f"Which date is {n} days after {start}? Write it as year-month-day."
    return item("date-in-month" if end.month == start.month else "date-over-month", ask, end)


# ---- everyday facts
# -------------------------------------------------------------------------------

ASK = {
    "capital": "What is the capital of {}?",
    "opposite": "What is the opposite of {}?",
    "young": "What is a young {} called?",
    "continent": "On which continent is {}?",
    "plural": "What is the plural of {}?",
}


def facts(dice: Dice, level: int) -> Fields:
    """One word each; the less known, the harder."""
    kind = dice.pick(list(ASK))
    table = WORDS["facts"][kind]
    fifth = len(table) // 5
    known, answer = dice.pick(table[(level - 1) * fifth : level * fifth])
    return item(kind, ASK[kind].format(known), answer)


# ---- short lists
# ----------------------------------------------------------------------------------


def lists(dice: Dice, level: int) -> Fields:
    """From a list copied to four words in order."""
    numbers = dice.some(range(1, 30), 4)
    words = dice.some(WORDS["short"], 4)
    if level == 1:
        return item("copy", f"Write as a list: {' and '.join(words[:3])}", _row(words[:3]))
    if level == 2:
        start = dice.between(1, 60)
        row = _row(range(start, start + 4))
        return item("count-on", f"Write the next two numbers: {row}", _row([start + 4, start + 5]))
    if level == 3:
        pair = numbers[:2]
        return item("sort-2", f"Sort from small to large: {_row(pair)}", _row(sorted(pair)))
    if level == 4:
        ask = f"Write this list in reverse: {_row(words[:3])}"
        return item("reverse-list", ask, _row(words[2::-1]))
    if dice.between(0, 1):
        ask = f"Sort from small to large: {_row(numbers)}"
        return item("sort-4", ask, _row(sorted(numbers)))
    return item("sort-words", f"Sort in alphabetical order: {_row(words)}", _row(sorted(words)))


def _row(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


# ---- the sets
# -------------------------------------------------------------------------------------

Maker = Callable[[Dice, int], Fields]
MAKERS: dict[str, Maker] = {
    f.__name__: f for f in (arithmetic, dates, facts, lists, logic, strings)
}


def rounds(
    make: Maker, dice: Dice, taken: set[str], per_level: int = PER_LEVEL
) -> Iterator[Fields]:
    """Yield items in rounds of the difficulties 1 to 5, each question once."""
    for _ in range(per_level):
        for level in range(1, 6):
            for _ in range(1000):  # a template with few words repeats itself: draw again
                found = make(dice, level)
                if _key(found) not in taken:
                    taken.add(_key(found))
                    yield {**found, "difficulty": level}
                    break


def _key(fields: Fields) -> str:
    return "|".join([fields["input"], *sorted(fields.get("choices", ()))])


def write(name: str, header: Fields, folder: Path) -> int:
    """Write one set and return its number of items."""
    taken = {_key(e) for e in header["examples"]}
    dice = Dice(SEED, zlib.crc32(name.encode()))
    rows = [header]
    for i, fields in enumerate(rounds(MAKERS[name], dice, taken)):
        rows.append({"item": f"{name}-{i:03d}", **fields})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return len(rows) - 1


def main() -> None:
    """Write every set whose header stands in `headers.toml`."""
    parser = argparse.ArgumentParser(description="Write the task sets.")
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    headers = tomllib.loads((HERE / "headers.toml").read_text(encoding="utf-8"))
    for name, header in headers.items():
        full = {"task": name, "version": VERSION, "licence": "MIT", **header}
        sys.stdout.write(f"{name}: {write(name, full, folder)} items\n")


if __name__ == "__main__":
    main()
