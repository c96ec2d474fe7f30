"""``python -m gmiqa.settings [--write]``: compare the notebooks' parameter cells with the table, or renew them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gmiqa.settings import STAGES, parameters_cell


def renew(notebook: Path, write: bool) -> bool:
    """True where the parameters cell of ``notebook`` differs from the table; ``write`` puts the table's text in."""
    text = notebook.read_text(encoding="utf-8")
    content = json.loads(text)
    for cell in content["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            wanted = parameters_cell(notebook.stem)
            if "".join(cell["source"]) == wanted:
                return False
            cell["source"] = wanted.splitlines(keepends=True)
            if write:
                notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            return True
    return True


def main(arguments: list[str]) -> int:
    folder = Path("notebooks")
    notebooks = [path for path in (folder / f"{stage}.ipynb" for stage in STAGES) if path.exists()]
    differing = [path for path in notebooks if renew(path, "--write" in arguments)]
    for path in differing:
        print(f"{path}: parameters cell {'renewed' if '--write' in arguments else 'differs from the table'}")
    return 1 if differing and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
