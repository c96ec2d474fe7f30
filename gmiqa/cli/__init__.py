"""``gmiqa <command>``: each command is one file here, imported only when it is asked for.

A command's file has ``add(subparsers)``, which declares its arguments, and ``run(args) -> int | None``.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from gmiqa_core.errors import UserError, did_you_mean


def commands() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a mistake of the user is one line on stderr and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"gmiqa: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "gmiqa", "gmiqa_core"):
            raise
        print(f"gmiqa: '{arguments[0]}' needs {package}, which the light install leaves out: `make` in a clone of the "
              "repository sets up everything (README.md)", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone, `| head` for example
        return 141


def _dispatch(arguments: list[str]) -> int:
    from gmiqa import __version__

    asked = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if asked is not None and asked not in commands():
        raise UserError(f"there is no command '{asked}'{did_you_mean(asked, commands())}; there are "
                        f"{', '.join(commands())}")
    parser = argparse.ArgumentParser("gmiqa", description="No-reference image quality assessment: "
                                     "run the notebooks, score pictures, distort them.")
    parser.add_argument("--version", action="version", version=f"gmiqa {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    modules = {name: import_module(f"{__name__}.{name}") for name in ([asked] if asked else commands())}
    for module in modules.values():
        module.add(subparsers)
    args = parser.parse_args(arguments or ["--help"])
    return modules[args.command].run(args) or 0
