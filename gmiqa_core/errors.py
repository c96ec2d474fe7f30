"""The error for a user's mistake, and the hint that goes with it."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A user's mistake: the message names the thing, says what was expected and what to do."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'seed'?"``, or nothing where no known name is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
