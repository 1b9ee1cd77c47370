"""A country and a shop that do not exist, made up by dice, so that no model knows them by heart."""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from generate import MONTHS, Dice

ONSETS = (
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "g",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "th",
    "v",
)
VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
CODAS = ("l", "n", "r", "s", "m", "th", "rn", "ld", "sk", "ll")
ENDS = {
    "island": ("ey", "holm", "mor"),
    "town": ("ford", "wick", "stad", "by", "haven", "ness"),
    "person": ("a", "en", "is", "o", "et"),
    "family": ("son", "vane", "mark", "lund", "dale"),
}
CRAFTS = ("engineer", "painter", "sailor", "botanist", "composer", "baker")
GOODS = ("rope", "salt", "lamps", "sails", "honey", "glass", "boots", "paper", "soap", "tea")
KNOWN = (
    "its fish market",
    "its clock tower",
    "its apple orchards",
    "its boatyards",
    "its glass ovens",
    "its stone quay",
    "its hot springs",
    "its weaving school",
)
FEASTS = ("kites", "lanterns", "bread", "rowing", "wool", "bells", "ice", "herring")


class Names:
    """Made-up names, no two alike."""

    def __init__(self, dice: Dice) -> None:
        """Begin with none taken."""
        self.dice, self.taken = dice, set[str]()

    def make(self, kind: str) -> str:
        """Make a name that ends as its kind does."""
        pick = self.dice.pick
        while True:
            stem = pick(ONSETS) + pick(VOWELS) + (pick(CODAS) if kind != "person" else pick(ONSETS))
            name = (stem + pick(ENDS[kind])).capitalize()
            if name not in self.taken and all(name[:4] != t[:4] for t in self.taken):
                self.taken.add(name)
                return name


@dataclasses.dataclass(frozen=True)
class Thing:
    """One document: a kind, a name, and facts that questions ask for."""

    kind: str
    name: str
    facts: dict[str, Any]
    text: str


# ---- the country
# ----------------------------------------------------------------------------------


def country(dice: Dice) -> dict[str, list[Thing]]:
    """Make up every island, town, person, lighthouse, bridge, firm and feast."""
    names = Names(dice)
    found: dict[str, list[Thing]] = {}
    found["island"] = [_island(dice, names) for _ in range(10)]
    found["town"] = [_town(dice, names, found["island"][i % 10]) for i in range(26)]
    towns = found["town"]
    found["person"] = [
        _person(dice, names, CRAFTS[i % len(CRAFTS)], dice.pick(towns)) for i in range(36)
    ]
    found["lighthouse"] = [_lighthouse(dice, town) for town in dice.some(towns, 16)]
    engineers = [p for p in found["person"] if p.facts["craft"] == "engineer"]
    found["bridge"] = [_bridge(dice, names, dice.pick(engineers), towns) for _ in range(14)]
    founders = [p for p in found["person"] if p.facts["craft"] != "engineer"]
    found["firm"] = [
        _firm(dice, names, founder, dice.pick(towns)) for founder in dice.some(founders, 18)
    ]
    found["feast"] = [_feast(dice, town) for town in dice.some(towns, 14)]
    return found


def _island(dice: Dice, names: Names) -> Thing:
    name, hill = names.make("island"), names.make("family")
    area, height = dice.between(40, 900), dice.between(90, 1400)
    text = (
        f"{name} is one of the Corran Isles. It covers {area} square kilometres. Its"
        " highest hill is"
        f" Mount {hill}, which rises {height} metres above the sea."
    )
    return Thing("island", name, {"area": area, "hill": f"Mount {hill}", "height": height}, text)


def _town(dice: Dice, names: Names, island: Thing) -> Thing:
    name, people, founded = names.make("town"), dice.between(12, 480) * 50, dice.between(1180, 1790)
    known = dice.pick(KNOWN)
    text = (
        f"{name} is a town on the island of {island.name}. It was founded in {founded}"
        " and is known for"
        f" {known}. At the last count it had {people} inhabitants."
    )
    facts = {"island": island.name, "people": people, "founded": founded}
    return Thing("town", name, facts, text)


def _person(dice: Dice, names: Names, craft: str, town: Thing) -> Thing:
    name = f"{names.make('person')} {names.make('family')}"
    born = dice.between(1802, 1899)
    article = "an" if craft[0] in "aeiou" else "a"
    text = (
        f"{name} was {article} {craft} of the Corran Isles. Born in {town.name} in {born},"
        f" {name.split(maxsplit=1)[0]} first worked as an apprentice and later taught"
        " at the school there."
    )
    return Thing("person", name, {"craft": craft, "born": born, "town": town.name}, text)


def _lighthouse(dice: Dice, town: Thing) -> Thing:
    height, built = dice.between(14, 71), dice.between(1740, 1910)
    text = (
        f"The lighthouse of {town.name} was built in {built}. It is {height} metres"
        " tall and its light is"
        f" seen from {dice.between(9, 31)} kilometres away."
    )
    return Thing(
        "lighthouse", f"the lighthouse of {town.name}", {"height": height, "built": built}, text
    )


def _bridge(dice: Dice, names: Names, designer: Thing, towns: Sequence[Thing]) -> Thing:
    name, (a, b) = names.make("family"), dice.some(towns, 2)
    length = dice.between(90, 1900)
    opened = designer.facts["born"] + dice.between(28, 60)
    text = (
        f"The {name} Bridge joins the towns of {a.name} and {b.name}. It was designed"
        f" by {designer.name},"
        f" is {length} metres long, and was opened in {opened}."
    )
    facts = {
        "length": length,
        "opened": opened,
        "designer": designer.name,
        "ends": (a.name, b.name),
    }
    return Thing("bridge", f"the {name} Bridge", facts, text)


def _firm(dice: Dice, names: Names, founder: Thing, town: Thing) -> Thing:
    goods, name = dice.pick(GOODS), names.make("family")
    founded, staff = founder.facts["born"] + dice.between(22, 50), dice.between(6, 240)
    text = (
        f"{name} & Co. is a firm in {town.name} that makes {goods}. It was founded in {founded} by"
        f" {founder.name} and employs {staff} people."
    )
    facts = {
        "goods": goods,
        "founded": founded,
        "founder": founder.name,
        "town": town.name,
        "staff": staff,
    }
    return Thing("firm", f"{name} & Co.", facts, text)


def _feast(dice: Dice, town: Thing) -> Thing:
    what, month = dice.pick(FEASTS), dice.pick(MONTHS)
    since = town.facts["founded"] + dice.between(20, 110)
    text = (
        f"The Feast of {what.capitalize()} is held in {town.name} every {month}. The"
        " town has kept it since"
        f" {since}; visitors come from all the islands."
    )
    return Thing(
        "feast",
        f"the Feast of {what.capitalize()} in {town.name}",
        {"month": month, "since": since},
        text,
    )


# ---- the shop's books
# -----------------------------------------------------------------------------

CATEGORIES = {
    "kitchen": ("kettle", "pan", "bowl", "ladle", "cup"),
    "garden": ("spade", "rake", "hose", "pot", "shears"),
    "desk": ("pen", "ruler", "lamp", "folder", "stapler"),
    "sport": ("ball", "racket", "rope", "net", "whistle"),
}
COLOURS = ("red", "blue", "green", "white")
Rows = list[dict[str, Any]]


def books(dice: Dice, towns: Sequence[str]) -> dict[str, Rows]:
    """Make up the tables of a mail-order shop: products, customers, orders and their lines."""
    names = Names(dice)
    kinds = [(c, thing) for c, things in CATEGORIES.items() for thing in things]
    products = [
        {
            "product_id": i + 1,
            "name": f"{dice.pick(COLOURS)} {thing}",
            "category": category,
            "price_cents": dice.between(4, 180) * 25,
        }
        for i, (category, thing) in enumerate(kinds)
    ]
    customers = [
        {
            "customer_id": i + 1,
            "name": f"{names.make('person')} {names.make('family')}",
            "town": dice.pick(towns),
        }
        for i in range(30)
    ]
    first = dt.date(2023, 1, 1)
    orders = [
        {
            "order_id": i + 1,
            "customer_id": dice.between(1, 30),
            "ordered_on": str(first + dt.timedelta(days=dice.between(0, 1095))),
            "status": dice.pick(("delivered", "delivered", "delivered", "returned", "open")),
        }
        for i in range(160)
    ]
    lines = [
        {"order_id": order["order_id"], "product_id": product, "quantity": dice.between(1, 9)}
        for order in orders
        for product in sorted(dice.some(range(1, len(products) + 1), dice.between(1, 3)))
    ]
    return {"products": products, "customers": customers, "orders": orders, "order_lines": lines}


KEYS = {"products": "product_id", "customers": "customer_id", "orders": "order_id"}
TYPES = {
    "product_id": "INTEGER",
    "customer_id": "INTEGER",
    "order_id": "INTEGER",
    "quantity": "INTEGER",
    "price_cents": "INTEGER",
    "ordered_on": "DATE",
}


def as_sql(tables: dict[str, Rows]) -> Iterator[str]:
    """Write tables as statements."""
    for table, rows in tables.items():
        columns = ", ".join(
            f"{name} {TYPES.get(name, 'VARCHAR')}"
            f"{' PRIMARY KEY' if KEYS.get(table) == name else ''}"
            for name in rows[0]
        )
        yield f"CREATE TABLE {table} ({columns});\n"
        values = ",\n".join(f"  ({', '.join(map(_literal, row.values()))})" for row in rows)
        yield f"INSERT INTO {table} VALUES\n{values};\n"


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
