"""Write what tools look into, and the sets that ask for it.

Run as `python data/tasks/generate_for_tools.py`.

A country that does not exist (the Corran Isles) with its towns, people, bridges and firms, so that
no model can know an answer by heart: it must be looked up. The corpus and the database are our own,
made by dice with a fixed seed; the same script writes the same bytes. Answers are worked out here
in Python, never by the tools.
"""

import argparse
import json
import sys
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from generate import HERE, SEED, VERSION, Dice, Fields, item, rounds
from made_up import CATEGORIES, Rows, Thing, as_sql, books, country

PER_LEVEL = 12


# ---- questions about the country
# ------------------------------------------------------------------


def lookup(world: dict[str, list[Thing]]) -> Callable[[Dice, int], Fields]:
    """Return the maker of questions: from one document to three, and a sum."""
    by_name = {thing.name: thing for things in world.values() for thing in things}
    makers = {1: _one_fact, 2: _one_name, 3: _two_steps, 4: _a_sum, 5: _three_steps}
    return lambda dice, level: makers[level](dice, world, by_name)


World, ByName = dict[str, list[Thing]], dict[str, Thing]


def _one_fact(dice: Dice, world: World, _: ByName) -> Fields:
    kind, fact, ask = dice.pick(
        [
            ("town", "people", "How many inhabitants does {} have?"),
            ("lighthouse", "height", "How many metres tall is {}?"),
            ("bridge", "length", "How many metres long is {}?"),
            ("firm", "staff", "How many people does {} employ?"),
        ]
    )
    thing = dice.pick(world[kind])
    return item(f"{kind}-{fact}", ask.format(thing.name), thing.facts[fact], scorer="numeric")


def _one_name(dice: Dice, world: World, _: ByName) -> Fields:
    kind, fact, ask = dice.pick(
        [
            ("bridge", "designer", "Who designed {}?"),
            ("firm", "founder", "Who founded {}?"),
            ("person", "town", "In which town was {} born?"),
            ("town", "island", "On which island is {}?"),
            ("feast", "month", "In which month is {} held?"),
        ]
    )
    thing = dice.pick(world[kind])
    return item(f"{kind}-{fact}", ask.format(thing.name), thing.facts[fact])


def _two_steps(dice: Dice, world: World, by_name: ByName) -> Fields:
    if dice.between(0, 1):
        bridge = dice.pick(world["bridge"])
        designer = by_name[bridge.facts["designer"]]
        ask = f"In which town was the designer of {bridge.name} born?"
        return item("designer-town", ask, designer.facts["town"])
    firm = dice.pick(world["firm"])
    island = by_name[firm.facts["town"]].facts["island"]
    return item("firm-island", f"On which island is the firm {firm.name}?", island)


def _a_sum(dice: Dice, world: World, by_name: ByName) -> Fields:
    if dice.between(0, 1):
        low, high = sorted(dice.some(world["lighthouse"], 2), key=lambda t: t.facts["height"])
        more = high.facts["height"] - low.facts["height"]
        ask = f"How many metres taller is {high.name} than {low.name}?"
        return item("taller", ask, more, scorer="numeric")
    bridge = dice.pick(world["bridge"])
    ends = [by_name[end].facts["people"] for end in bridge.facts["ends"]]
    ask = f"How many inhabitants do the two towns that {bridge.name} joins have together?"
    return item("both-ends", ask, sum(ends), scorer="numeric")


def _three_steps(dice: Dice, world: World, by_name: ByName) -> Fields:
    firm = dice.pick(world["firm"])
    founder = by_name[firm.facts["founder"]]
    if dice.between(0, 1):
        age = firm.facts["founded"] - founder.facts["born"]
        ask = f"How many years after the birth of its founder was {firm.name} founded?"
        return item("founder-age", ask, age, scorer="numeric")
    island = by_name[by_name[founder.facts["town"]].facts["island"]]
    ask = f"What is the highest hill on the island where the founder of {firm.name} was born?"
    return item("founder-hill", ask, island.facts["hill"])


# ---- questions about the books
# --------------------------------------------------------------------


def ledger(tables: dict[str, Rows]) -> Callable[[Dice, int], Fields]:
    """Return the maker of questions: from one row to several tables joined and grouped."""
    makers = {1: _one_table, 2: _extreme, 3: _sold, 4: _spent, 5: _best_town}
    return lambda dice, level: makers[level](dice, tables, _joined(tables))


def _joined(tables: dict[str, Rows]) -> Rows:
    products = {p["product_id"]: p for p in tables["products"]}
    customers = {c["customer_id"]: c for c in tables["customers"]}
    orders = {o["order_id"]: o for o in tables["orders"]}
    found = []
    for line in tables["order_lines"]:
        order = orders[line["order_id"]]
        product, customer = products[line["product_id"]], customers[order["customer_id"]]
        found.append(
            {
                "quantity": line["quantity"],
                "product": product["name"],
                "category": product["category"],
                "cents": line["quantity"] * product["price_cents"],
                "customer": customer["name"],
                "town": customer["town"],
                "year": order["ordered_on"][:4],
                "status": order["status"],
            }
        )
    return found


def _one_table(dice: Dice, tables: dict[str, Rows], _: Rows) -> Fields:
    if dice.between(0, 1):
        town = dice.pick(sorted({c["town"] for c in tables["customers"]}))
        n = sum(c["town"] == town for c in tables["customers"])
        return item("count-customers", f"How many customers live in {town}?", n, scorer="numeric")
    product = dice.pick(tables["products"])
    ask = f"How many cents does the {product['name']} cost?"
    return item("price", ask, product["price_cents"], scorer="numeric")


def _extreme(dice: Dice, tables: dict[str, Rows], _: Rows) -> Fields:
    if dice.between(0, 1):
        category, (word, best) = (
            dice.pick(list(CATEGORIES)),
            dice.pick([("most", max), ("least", min)]),
        )
        rows = [p for p in tables["products"] if p["category"] == category]
        found = best(rows, key=lambda p: p["price_cents"])
        if sum(p["price_cents"] == found["price_cents"] for p in rows) > 1:  # no single answer
            return _extreme(dice, tables, _)
        ask = f"Which product of the category {category} costs the {word}?"
        return item("dearest", ask, found["name"])
    status, year = dice.pick(("returned", "open", "delivered")), dice.pick(("2023", "2024", "2025"))
    rows = [o for o in tables["orders"] if o["status"] == status and o["ordered_on"][:4] == year]
    ask = f"How many orders of the year {year} are {status}?"
    return item("count-orders", ask, len(rows), scorer="numeric")


def _sold(dice: Dice, tables: dict[str, Rows], joined: Rows) -> Fields:
    product = dice.pick(tables["products"])["name"]
    n = sum(row["quantity"] for row in joined if row["product"] == product)
    ask = f"How many pieces of the {product} were ordered in all, whatever became of the orders?"
    return item("pieces", ask, n, scorer="numeric")


def _spent(dice: Dice, tables: dict[str, Rows], joined: Rows) -> Fields:
    name = dice.pick(tables["customers"])["name"]
    year = dice.pick(("2023", "2024", "2025"))
    cents = sum(
        row["cents"]
        for row in joined
        if row["customer"] == name and row["year"] == year and row["status"] == "delivered"
    )
    if not cents:  # too many customers have none: ask for another
        return _spent(dice, tables, joined)
    ask = f"For how many cents were goods delivered to {name} from orders of the year {year}?"
    return item("delivered-cents", ask, cents, scorer="numeric")


def _best_town(dice: Dice, _: dict[str, Rows], joined: Rows) -> Fields:
    category, year = dice.pick(list(CATEGORIES)), dice.pick(("2023", "2024", "2025"))
    group, word = dice.pick(
        [("town", "In which town do the customers live who"), ("customer", "Which customer")]
    )
    sums: Counter[str] = Counter()
    for row in joined:
        if row["category"] == category and row["year"] == year:
            sums[row[group]] += row["quantity"]
    (best, most), (_, second) = sums.most_common(2)
    if most == second:  # no single answer
        return _best_town(dice, _, joined)
    ordered = "ordered" if group == "customer" else "together ordered"
    ask = f"{word} {ordered} the most pieces of the category {category} in the year {year}?"
    return item(f"best-{group}", ask, best)


# ---- files
# ----------------------------------------------------------------------------------------


def documents(world: dict[str, list[Thing]], dice: Dice) -> Iterator[str]:
    """Write the corpus, a document a line, in no telling order."""
    things = [thing for kind in world.values() for thing in kind]
    for number, thing in enumerate(dice.some(things, len(things)), 1):
        title = thing.name[0].upper() + thing.name[1:]
        row = {"document": f"d{number:03d}", "title": title, "text": thing.text}
        yield json.dumps(row, ensure_ascii=False) + "\n"


def write(name: str, make: Callable[[Dice, int], Fields], folder: Path) -> None:
    """Write one set; its worked examples are further questions of its own kinds."""
    header = tomllib.loads((HERE / "headers_for_tools.toml").read_text(encoding="utf-8"))[name]
    dice = Dice(SEED, zlib.crc32(name.encode()))
    taken = {example["input"] for example in header["examples"]}
    rows: list[Fields] = [{"task": name, "version": VERSION, "licence": "MIT", **header}]
    for i, fields in enumerate(rounds(make, dice, taken, PER_LEVEL)):
        rows.append({"item": f"{name}-{i:03d}", **fields})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{name}: {len(rows) - 1} items\n")


def main() -> None:
    """Write the corpus, the database and both sets."""
    parser = argparse.ArgumentParser(
        description="Write the tools' data and the sets that ask for it."
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the sets")
    parser.add_argument(
        "--tools", type=Path, default=HERE.parent / "tools", help="folder of the data"
    )
    chosen = parser.parse_args()
    world = country(Dice(SEED, 11))
    tables = books(Dice(SEED, 13), [town.name for town in world["town"][:8]])
    for folder in (chosen.output, chosen.tools):
        folder.mkdir(parents=True, exist_ok=True)
    corpus, database = documents(world, Dice(SEED, 12)), as_sql(tables)
    (chosen.tools / "corpus.jsonl").write_text("".join(corpus), encoding="utf-8")
    (chosen.tools / "database.sql").write_text("".join(database), encoding="utf-8")
    write("lookup", lookup(world), chosen.output)
    write("ledger", ledger(tables), chosen.output)


if __name__ == "__main__":
    main()
