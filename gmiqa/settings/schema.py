"""What a parameter is, and how a value from a person, a YAML file or papermill is converted to its type."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from gmiqa_core.errors import UserError, did_you_mean

TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
NOTHING = {"", "none", "null", "~"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of one or more notebooks.

    type      int, float, str, bool or list: the annotations that papermill's --help-notebook can read
    default   the value in the notebook, which is the quick preset's
    choices   the allowed values (of each element, for a list); "cuda:N" stands for cuda: and any whole number,
              "timm:NAME" for timm: and any text
    low, high the allowed range, both ends included (of each element, for a list)
    items     the type of a list's elements
    path      its text names a file or folder, whose files a result depends on, unless it is one of words
    stages    the notebooks that take it
    only_if   conditions on other parameters, such as "dataset=folder|livec" or "csv!= and finetune_epochs=0": where
              one of them does not hold, a notebook may leave this parameter unread; a list equals each of its elements
    """

    name: str
    type: builtins.type
    default: Any
    help: str
    unit: str = ""
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    items: builtins.type = str
    path: bool = False
    words: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    only_if: str = ""

    def needed(self, values: Mapping[str, Any]) -> bool:
        """True where a notebook with these values must read it; a condition on a parameter it lacks does not count."""
        for condition in filter(None, self.only_if.split(" and ")):
            name, equals, texts = condition.partition("!=" if "!=" in condition else "=")
            if name in values:
                value = values[name]
                present = {str(v) for v in (value or [""] if isinstance(value, list) else [value])}
                if bool(present & set(texts.split("|"))) != (equals == "="):
                    return False
        return True

    def convert(self, value: Any) -> Any:
        """``value`` as this parameter's type, checked; UserError with the reason where that cannot be."""
        try:
            if self.type is list:
                return [self._one(self.items, element) for element in _elements(value)]
            return self._one(self.type, value)
        except _Refused as reason:
            raise UserError(
                f"{self.name}: {value!r} {reason}; expected {self.expected()} ({self.help})"
            ) from None

    def expected(self) -> str:
        """The values that it takes, in words."""
        kind = self.items if self.type is list else self.type
        text = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]
        if self.choices:
            text = "one of " + ", ".join(map(str, self.choices))
        elif self.low is not None and self.high is not None:
            text += f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            text += f" of at least {self.low:g}"
        elif self.high is not None:
            text += f" of at most {self.high:g}"
        text += f" ({self.unit})" if self.unit else ""
        return f"a list, each {text}" if self.type is list else text

    def line(self) -> str:
        """Its line in a notebook's parameters cell."""
        default = f'"{self.default}"' if isinstance(self.default, str) else _literal(self.default)
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.name}: {self.type.__name__} = {default}  # {self.help}{unit}"

    def _one(self, kind: builtins.type, value: Any) -> Any:
        result = _TO[kind](value)
        if self.choices and not any(_stands_for(choice, result) for choice in self.choices):
            raise _Refused(f"is not one of its choices{did_you_mean(str(value), map(str, self.choices))}")
        if self.low is not None and result < self.low:
            raise _Refused(f"is below {self.low:g}")
        if self.high is not None and result > self.high:
            raise _Refused(f"is above {self.high:g}")
        return result


class _Refused(Exception):
    """The reason why a value cannot become the parameter's type."""


def _stands_for(choice: Any, value: Any) -> bool:
    head, colon, rest = str(choice).partition(":")
    if not colon or not rest.isupper():
        return value == choice
    given = str(value).removeprefix(head + colon)
    return given != str(value) and (given.isdecimal() if rest == "N" else bool(given))


def _literal(value: Any) -> str:
    if not isinstance(value, list):
        return repr(value)
    return "[" + ", ".join(f'"{v}"' if isinstance(v, str) else repr(v) for v in value) + "]"


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise _Refused("is true or false, not a number")
    if isinstance(value, str):
        digits = value.strip().lstrip("+-").replace("_", "")
        # YAML 1.1 reads 010 as 8, but a person reads 10.
        if digits.isdigit() and len(digits) > 1 and digits[0] == "0":
            raise _Refused("begins with a zero, which YAML reads as base eight: leave the zero out")
    number = _real(value)
    if number != int(number):
        raise _Refused("is not whole")
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)


def _real(value: Any) -> float:
    if isinstance(value, bool):
        raise _Refused("is true or false, not a number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _Refused("is not a number") from None
    if not math.isfinite(number):
        raise _Refused("is not finite")
    return number


def _truth(value: Any) -> bool:
    word = str(value).strip().lower()
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise _Refused("is neither true nor false")


def _text(value: Any) -> str:
    if isinstance(value, (bool, list, dict)):
        raise _Refused(f"is a {type(value).__name__}, not a text")
    return "" if value is None or str(value).strip().lower() in ("null", "~") else str(value)


def _elements(value: Any) -> list:
    """A list from a list, ``"[a, b]"``, ``"a,b"`` or one bare value."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in NOTHING:
            return []
        if text.startswith("["):
            try:
                value = yaml.load(text, yaml.BaseLoader)
            except yaml.YAMLError:
                raise _Refused("is no list that can be read") from None
        else:
            value = [part.strip() for part in text.split(",")]
    if value is None:
        return []
    if isinstance(value, dict):
        raise _Refused("is a mapping, not a list")
    return list(value) if isinstance(value, (list, tuple)) else [value]


_TO: dict[builtins.type, Callable[[Any], Any]] = {int: _integer, float: _real, bool: _truth, str: _text}
