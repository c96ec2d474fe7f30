"""Every parameter of the project, declared once with type, range, unit and help; values are read in layers.

    load("params/paper.yaml", "params/koniq10k.yaml", overrides={"seed": 1})

The layers, later ones winning: the table's default (the quick preset), each YAML file in the order given, then
``overrides`` (papermill's injected values or the command's ``-p``). There is no inheritance between files: what
is on the command line is all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gmiqa.settings.schema import Parameter
from gmiqa.settings.table import STAGES, TABLE
from gmiqa_core.errors import UserError, did_you_mean

__all__ = ["STAGES", "TABLE", "Parameter", "Settings", "UserError", "did_you_mean", "load", "parameters_cell",
           "parse_overrides", "read_yaml", "stage_parameters"]


class Settings(Mapping[str, Any]):
    """Checked values by name (``s.seed`` or ``s["seed"]``); ``s.source["seed"]`` says where each came from.

    ``s.read`` holds the names that were asked for one by one, so that a parameter without effect is noticed. They are
    also written to the file ``s.log``. Use ``s.plain()`` to record all values without using any.
    """

    log: Path | None = None

    def __init__(self, values: dict[str, Any], source: dict[str, str],
                 original: tuple[Settings, frozenset[str]] | None = None):
        self._values, self.source, self._original = values, source, original
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise KeyError(f"no parameter '{name}' here{did_you_mean(name, self._values)}")
        return self._counted(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"no parameter '{name}' here{did_you_mean(name, self.__dict__.get('_values', ()))}")
        return self._counted(name)

    def _counted(self, name: str) -> Any:
        if name not in self.read and self.log is not None:
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(name + "\n")
        self.read.add(name)
        if self._original is not None and name not in self._original[1]:
            self._original[0]._counted(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Settings({self._values})"

    def plain(self) -> dict[str, Any]:
        """All values, none of them counted as read."""
        return dict(self._values)

    def unread(self, declared: Mapping[str, Parameter]) -> list[str]:
        """The parameters that these values need, but that nobody has asked for."""
        return [name for name in declared if name not in self.read and declared[name].needed(self._values)]

    def replaced(self, source: str = "replaced", **values: Any) -> Settings:
        """A copy with other values for some names, converted and checked like any other.

        What is read of the copy is read of the original too, but for what was replaced.
        """
        checked = {}
        for name, value in values.items():
            if name not in TABLE:
                raise KeyError(f"no parameter '{name}'{did_you_mean(name, TABLE)}")
            checked[name] = TABLE[name].convert(value)
        sources = self.source | dict.fromkeys(checked, source)
        return Settings(self._values | checked, sources, (self, frozenset(checked)))

    def overlaid(self, path: str | Path) -> Settings:
        """A copy with the values of a YAML file laid over these."""
        try:
            return self.replaced(str(path), **read_yaml(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def lines(self) -> list[str]:
        """One aligned line per parameter: name, value, source."""
        width = max((len(name) for name in self), default=0)
        values = {name: str(value) if value != "" else '""' for name, value in self._values.items()}
        column = min(max((len(text) for text in values.values()), default=0), 40)
        return [f"{name:<{width}}  {values[name]:<{column}}  {self.source[name]}" for name in self]


def stage_parameters(stage: str | None) -> dict[str, Parameter]:
    """The parameters that the notebook ``stage`` takes, in the order of its cell; all of them for None."""
    if stage is None:
        return TABLE
    if stage not in STAGES:
        raise UserError(f"no stage '{stage}'{did_you_mean(stage, STAGES)}; the stages are {', '.join(STAGES)}")
    return {name: parameter for name, parameter in TABLE.items() if stage in parameter.stages}


def load(*paths: str | Path, overrides: Mapping[str, Any] | None = None, stage: str | None = None,
         source: str = "-p") -> Settings:
    """Defaults, then each YAML file, then ``overrides``: converted, or refused with a UserError.

    Every name is checked against the whole table, so that one file serves all stages; with ``stage`` only that
    stage's parameters are returned. ``source`` is the word for overrides in ``Settings.source``.
    """
    values = {name: parameter.default for name, parameter in TABLE.items()}
    sources = dict.fromkeys(TABLE, "default")
    layers = [(str(path), read_yaml(path)) for path in paths]
    if overrides:
        layers.append((source, dict(overrides)))
    for label, layer in layers:
        for name, value in layer.items():
            if name not in TABLE:
                raise UserError(f"{label}: there is no parameter '{name}'{did_you_mean(name, TABLE)}")
            try:
                values[name] = TABLE[name].convert(value)
            except UserError as error:
                raise UserError(f"{label}: {error}") from None
            sources[name] = label
    wanted = stage_parameters(stage)
    copied = {name: list(values[name]) if isinstance(values[name], list) else values[name] for name in wanted}
    return Settings(copied, {name: sources[name] for name in wanted})


def parse_overrides(texts: Iterable[str]) -> dict[str, str]:
    """``["seed=1", "types=[jpeg, lens_blur]"]`` -> a mapping for ``load(overrides=...)``."""
    result = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"-p {text}: expected name=value, for example -p seed=1")
        result[name.strip()] = value
    return result


class _Text(yaml.BaseLoader):
    """Scalars stay text (the table gives them their types: 1e-3 is a number, 010 is refused); no name twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = [key.value for key, _ in node.value]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"'{twice}' is given twice")
        return mapping


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The names and texts of one YAML file of parameters."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, _Text)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; the presets are in params/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}: is not YAML{where}; expected lines like 'seed: 1'") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines like 'seed: 1', found a {type(content).__name__}")
    return content


def parameters_cell(stage: str) -> str:
    """The text of the parameters cell of the notebook ``stage``: the table is its only source."""
    return "\n".join(parameter.line() for parameter in stage_parameters(stage).values())
