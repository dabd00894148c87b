"""Rules that divide objects into training, validation and test, as a paper states them."""

from dataclasses import dataclass

from mmclip.errors import UsageError, nearest

RULES = ("cells", "random", "labelled", "column")
GIVEN = "as given"  # how the title of a rule `column` begins


@dataclass(frozen=True)
class Split:
    """A rule.

    Attributes:
        rule: cells (a hash of the HEALPix cell) | random | labelled (objects with a value in one
            of `columns` are for validation, the others for training) | column (`columns` names
            the one that says it).
        fractions: Of training, validation and test objects, for `random`.
        seed: Of `random`.
        columns: Names of columns, for `labelled` and `column`.
        where: Its place in the paper.
    """

    rule: str
    fractions: tuple[float, ...] = (0.8, 0.1, 0.1)
    seed: int = 42
    columns: tuple[str, ...] = ()
    where: str = ""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(
                f"the split '{self.rule}' is not known; {nearest(self.rule, list(RULES))}", HINT
            )
        if self.rule in ("labelled", "column") and not self.columns:
            raise UsageError(f"the split '{self.rule}' names no column", HINT)
        whole = abs(sum(self.fractions) - 1) < 1e-9 and min(self.fractions) >= 0
        if len(self.fractions) != 3 or not whole or not self.fractions[0]:
            raise UsageError(f"{self.shares} does not divide a whole", HINT)

    @property
    def shares(self) -> str:
        """Of training, validation and test in per cent: 80/10/10."""
        return "/".join(f"{100 * f:g}" for f in self.fractions)

    @property
    def text(self) -> str:
        """As `--split` takes it."""
        more = {"cells": "", "random": self.shares}.get(self.rule, ",".join(self.columns))
        return f"{self.rule} {more}".strip()

    @property
    def title(self) -> str:
        """For people."""
        if self.rule == "random":
            shares = "/".join(f"{100 * f:g}" for f in self.fractions if f)
            return f"{shares} at random, seed {self.seed}"
        if self.rule == "column":
            return f"{GIVEN} in the column {' or '.join(self.columns)}"
        return {
            "cells": "by cells of the sky",
            "labelled": "by label: validation objects have one, training objects have none",
        }[self.rule]


HINT = '--split cells | "random 80/10/10" | "labelled COLUMN" | "column COLUMN" | a paper\'s name'


def parse(text: str, seed: int = 42) -> Split:
    """A rule as it is typed: `cells`, `random 80/10/10`, `labelled COLUMN`, `column COLUMN`.

    >>> parse("random 90/0/10").fractions
    (0.9, 0.0, 0.1)

    Raises:
        UsageError: If it is none of these.
    """
    rule, _, more = text.strip().partition(" ")
    words = tuple(w.strip() for w in more.split(",") if w.strip())
    if rule != "random":
        return Split(rule, seed=seed, columns=words)
    try:
        shares = [float(w) / 100 for w in more.split("/")] if more.strip() else [0.8, 0.1, 0.1]
    except ValueError:
        raise UsageError(f"'{more.strip()}' are no shares in per cent", HINT) from None
    if len(shares) == 2:  # training and test
        shares.insert(1, 0.0)
    return Split("random", tuple(shares), seed)
