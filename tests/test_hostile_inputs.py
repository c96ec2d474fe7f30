"""Broken, foreign and harmful files: each is scored or refused in words, none stops the others."""

import re
from pathlib import Path

import hostile
import pytest
from mutations import mutations

from gmiqa.release.export import to_onnx
from gmiqa.score import Scorer
from gmiqa.torch_engine import NAMES
from gmiqa_core import network


def memory(field: str) -> float:
    """VmRSS, memory held now, or VmHWM, the most since this was last set back; in bytes."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(match[1]) * 1024 if match else 0.0


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the most from here on: other tests ran in this process
    except OSError:
        before = None
    else:
        before = memory("VmRSS")
    ran = hostile.run(tmp_path_factory.mktemp("hostile"))
    return *ran, None if before is None else memory("VmHWM") - before


def test_there_are_at_least_forty():
    assert len(hostile.CASES) >= 40


def test_each_gives_what_was_expected_and_the_command_says_3(result):
    code, made, rows, *_ = result
    assert code == 3
    given = {name: hostile.outcome(rows[name]) for name in made}
    assert given == {name: case.expected for name, case in made.items()}


def test_reasons_are_plain_words(result):
    for row in result[2].values():
        if row and row["error"]:
            assert len(row["error"]) < 250 and "Traceback" not in row["error"] and "\n" not in row["error"]


def test_equal_pictures_score_equally_whatever_their_name(result):
    rows = result[2]
    qualities = {row["quality"] for name, row in rows.items() if name.endswith("red.png") or "SUM" in name}
    assert len(qualities) == 1 and "" not in qualities


def test_the_page_of_the_documentation_says_the_same(result):
    assert hostile.DOCUMENT.read_text(encoding="utf-8") == result[3], "run python tests/hostile.py --write"


def test_no_bomb_takes_much_memory(result):
    if result[4] is None:
        pytest.skip("this system does not tell the most memory that was held")
    assert 0 < result[4] < 1e9


def test_mutated_pictures_are_scored_or_refused_and_none_is_lost(tmp_path):
    """Seeded; `python tests/mutations.py` sends 2,000 through the command."""
    (tmp_path / "model.onnx").write_bytes(to_onnx(network.build("tiny"), {"names": NAMES, "max_side": 64}))
    pictures = dict(mutations(300))
    scores = list(Scorer(tmp_path / "model.onnx", "cpu", workers=2).score_many(pictures.values()))
    assert len(scores) == len(pictures)
    read = [score for score in scores if not score.error]
    assert 30 < len(read) < 270, "both outcomes are tried"
    assert all(0 <= score.quality <= 100 for score in read)
    unexpected = [score.error for score in scores if score.error and not score.error.startswith("cannot read")]
    assert not unexpected, "each is an error that the decoder foresees"
