"""Broken, foreign and harmful files: each is scored or refused in words, none stops the others."""

import resource

import hostile
import pytest


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return hostile.run(tmp_path_factory.mktemp("hostile"))


def test_there_are_at_least_forty():
    assert len(hostile.CASES) >= 40


def test_each_gives_what_was_expected_and_the_command_says_3(result):
    code, made, found, _ = result
    assert code == 3
    given = {name: hostile.outcome(found[name]) for name in made}
    assert given == {name: case.expected for name, case in made.items()}


def test_reasons_are_plain_words(result):
    for row in result[2].values():
        if row and row["error"]:
            assert len(row["error"]) < 250 and "Traceback" not in row["error"] and "\n" not in row["error"]


def test_equal_pictures_score_equally_whatever_their_name(result):
    found = result[2]
    qualities = {row["quality"] for name, row in found.items() if name.endswith("red.png") or "SUM" in name}
    assert len(qualities) == 1 and "" not in qualities


def test_the_page_of_the_documentation_says_the_same(result):
    assert hostile.DOCUMENT.read_text(encoding="utf-8") == result[3], "run python tests/hostile.py --write"


def test_no_bomb_takes_much_memory(result):  # it is asked for so that it ran before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 2e9  # the whole process, torch included
