"""One finding, and the parts of sentences that findings share."""

from __future__ import annotations

from typing import NamedTuple

from skmode.inspection._report.cells import score
from skmode.inspection._report.facts import Facts
from skmode.inspection._report.formatting import INTERVAL, SPACE, fixed, points
from skmode.inspection._report.intervals import Interval


class Finding(NamedTuple):
    """One finding: what was found, the figures that it rests on, and what to do."""

    kind: str  # "good", "note", "watch" or "act": how urgent it is
    title: str
    evidence: str
    advice: str
    section: str  # id of the section of the page that has the figures
    items: tuple[str, ...] = ()  # more evidence, as a list


def loss_limit(facts: Facts, margin: float) -> float:
    """Return the largest loss that is called small, in the unit of the score."""
    return margin if facts.classifies else margin * facts.probing.mixture_score


def score_text(facts: Facts, value: float) -> str:
    """Write a score, such as "93.1 %" or "58.50"."""
    return score(facts, value).text


def amount(facts: Facts, value: float) -> str:
    """Write a difference of scores with its unit."""
    if facts.classifies:
        return point_amount(value)
    return f"{fixed(value, facts.decimals)} in RMSE"


def point_amount(share: float) -> str:
    """Write a difference of shares with its unit."""
    return f"{points(share)}{SPACE}percentage points"


def bounds(facts: Facts, interval: Interval) -> str:
    """Write the ends of an interval of a difference of scores."""
    if facts.classifies:
        return point_bounds(interval)
    return f"{fixed(interval.low, facts.decimals)} to {fixed(interval.high, facts.decimals)}"


def point_bounds(interval: Interval) -> str:
    """Write the ends of an interval of a difference of shares."""
    return f"{points(interval.low)} to {points(interval.high)}"


def loss_text(facts: Facts, loss: Interval) -> str:
    """Write a loss and its interval; a negative loss is called a gain, with the gain's interval."""
    called = "loss"
    if loss.estimate < 0:
        called, loss = "gain", Interval(-loss.estimate, -loss.high, -loss.low)
    size = amount(facts, loss.estimate)
    return f"a {called} of {size} ({INTERVAL} of the {called} {bounds(facts, loss)})"


def lead_text(facts: Facts, loss: Interval) -> str:
    """Write the loss of one prediction as the lead of the other."""
    where = "behind" if loss.estimate < 0 else "ahead"
    size = amount(facts, abs(loss.estimate))
    return f"{where} by {size} ({INTERVAL} of the lead {bounds(facts, loss)})"
