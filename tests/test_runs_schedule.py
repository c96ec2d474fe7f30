"""Order, threads and times of a chain, on machines that are made up: nothing here starts a process."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gmiqa.runs import estimate, provenance
from gmiqa.runs.chain import Chain
from gmiqa.runs.order import LAST, NEEDS, SECONDS
from gmiqa.runs.plan import TIMES, Step
from gmiqa.runs.progress import Progress, time_left
from gmiqa.runs.schedule import PATH, Room, Task, speed
from gmiqa.settings import load

FAST = "a CPU with AVX512-BF16"
ROOMS = [Room(jobs, cores) for jobs in (1, 2, 4) for cores in (1, 2, 4, 16)]
ROOT = Path(__file__).parent.parent


def tasks(room: Room, threads: dict[str, int] | None = None) -> dict[str, Task]:
    counts = threads or {name: room.threads(name) for name in NEEDS}
    return {name: Task(SECONDS[name] / speed(name, n), n) for name, n in counts.items()}


def beginnings(room: Room, waiting: dict[str, Task]) -> list[str]:
    """The order in which the stages begin."""
    order, busy, ends, now = [], {}, {}, 0.0
    while waiting or busy:
        while (name := room.following(waiting, busy)) is not None:
            busy[name] = waiting.pop(name)
            order.append(name)
            ends[name] = now + busy[name].seconds
        over = min(busy, key=ends.__getitem__)
        now = ends[over]
        del busy[over]
    return order


# --- order and threads


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_the_critical_path_goes_first_and_the_report_last(room):
    order = beginnings(room, tasks(room))
    assert order[0] == PATH[0] and order[-1] == LAST and sorted(order) == sorted(NEEDS)
    assert all(order.index(needed) < order.index(name) for name in order for needed in NEEDS[name])


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_a_stage_has_its_share_of_the_cores_or_all_of_them(room):
    assert {room.threads(name) for name in NEEDS} <= {max(1, room.cores // room.jobs), room.cores}
    assert room.jobs > 1 or {room.threads(name) for name in NEEDS} == {room.cores}


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_the_threads_make_the_chain_no_longer_than_equal_shares_do(room):
    equal = dict.fromkeys(NEEDS, max(1, room.cores // room.jobs))
    assert max(room.ends(tasks(room)).values()) <= max(room.ends(tasks(room, equal)).values())


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_no_more_threads_at_a_time_than_cores_unless_more_stages_were_asked_for(room):
    waiting, ends = tasks(room), room.ends(tasks(room))
    for moment in sorted(ends.values()):
        busy = [n for n, task in waiting.items() if ends[n] - task.seconds < moment - 1e-6 <= ends[n] - 1e-6]
        assert sum(waiting[n].threads for n in busy) <= max(room.cores, room.jobs) and len(busy) <= room.jobs


def test_nothing_overtakes_a_stage_that_waits_for_its_cores():
    waiting = {"30_distortion_graphs": Task(100, 2), "60_ablations": Task(10, 1)}
    assert Room(2, 2).following(waiting, {"80_metaqap": Task(1, 1)}) is None
    assert Room(2, 2).following(waiting, {}) == "30_distortion_graphs"


def test_more_places_make_the_chain_shorter_down_to_its_longest_row():
    def span(jobs: int) -> float:
        room = Room(jobs, jobs)
        return max(room.ends(tasks(room, dict.fromkeys(NEEDS, 1))).values())

    row = sum(SECONDS[name] for name in (*PATH, LAST))
    assert span(1) == sum(SECONDS.values()) and row <= span(2) < span(1) and span(9) == row


# --- the time left


@dataclass
class Running:
    """A stage at work in a world without processes; ``took`` is what only the world knows."""

    step: Step
    expected: float
    began: float
    took: float
    now: float = 0.0

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def threads(self) -> int:
        return self.step.threads

    @property
    def elapsed(self) -> float:
        return self.now - self.began

    least = elapsed


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> list[Step]:
    return Chain(tmp_path_factory.mktemp("empty") / "none", load()).plan()


def world(chain: Chain, steps: list[Step], factor: float, spread: float, seed: int) -> list[tuple[float, float]]:
    """(what the chain says is left, what is left) whenever a stage ends, on a machine ``factor`` times as slow."""
    drawn, now, said = random.Random(seed), 0.0, []
    chain._waiting = {step.name: replace(step, threads=chain.threads(step.name)) for step in steps}
    while chain._waiting or chain._children:
        while len(chain._children) < chain.jobs and (name := chain._next()):
            step = chain._waiting.pop(name)
            expected = chain.expected(step)
            took = factor * expected * drawn.uniform(1 - spread, 1 + spread)
            chain._children.append(Running(step, expected, now, took))
        first = min(chain._children, key=lambda child: child.began + child.took)
        now = first.began + first.took
        for child in chain._children:
            child.now = now
        chain._children.remove(first)
        chain._pace.ended(first.took, first.expected)
        said.append((chain.left(), now))
    return [(left, now - then) for left, then in said]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("factor, spread", [(1.0, 0.0), (2.5, 0.0), (2.5, 0.2), (0.4, 0.2)])
def test_the_time_left_is_within_a_third_of_the_truth_from_the_second_stage_on(tmp_path, steps, jobs, factor, spread):
    for seed in range(5):
        chain = Chain(tmp_path / "none", load(), jobs=jobs)
        chain.room = Room(jobs, 2)
        told = world(chain, steps, factor, spread, seed)[:-1]
        for left, truth in told:  # a last stage alone may be off by chance: 5 % of the whole
            assert abs(left - truth) <= max(truth / 3, 0.05 * told[0][1]), f"{left:.0f} s left? {truth:.0f} are"


def test_a_stage_at_work_that_takes_longer_is_not_waited_for():
    from gmiqa.runs.pace import Pace
    pace = Pace()
    assert pace.ratio() == 1 and pace.ratio([(10.0, 100.0)]) == 1 and pace.ratio([(250.0, 100.0)]) == 2.5
    pace.ended(20, 10)
    assert pace.ratio([(150.0, 100.0)]) == 2 and pace.ratio([(420.0, 100.0)]) == 4


def test_what_was_run_before_corrects_the_estimate_of_it_and_of_the_others(tmp_path, steps):
    fresh = Chain(tmp_path / "none", load())
    provenance.write_json(tmp_path / "run" / TIMES, {PATH[0]: [300.0, 100.0]})
    chain = Chain(tmp_path / "run", load())
    for step in steps:
        assert chain.expected(step) == pytest.approx(3 * fresh.expected(step))


def test_a_line_of_progress_says_how_long_it_takes():
    bar = Progress("steps", 40, jupyter=False)
    bar._start -= 100
    for count, left in ((2, None), (10, 300), (20, 100)):
        bar.count = count
        found = time_left("… " + bar.text())
        assert found == left if left is None else abs(found - left) < 1.5
    bar._start -= 7400
    assert abs(time_left("… " + bar.text()) - 7500) < 61 and time_left("steps 20/40, 5 s left") is None


# --- estimates


def test_quick_on_the_cpu_it_was_measured_on_takes_what_was_measured():
    quick = load(ROOT / "params" / "quick.yaml")
    for name, expected in SECONDS.items():
        assert estimate.seconds(name, quick, 1, FAST) == pytest.approx(expected)
        assert estimate.seconds(name, quick, 1, "a CPU of single precision") > 2 * expected


@pytest.mark.parametrize("device", [FAST, "GPU NVIDIA H200"])
def test_more_training_takes_longer_in_proportion(device):
    def seconds(name: str, **changed: object) -> float:
        settings = load(ROOT / "params" / "paper.yaml", overrides=changed)
        return estimate.seconds(name, settings, 1, device)

    for name, parameter in ((PATH[0], "meta_steps"), (PATH[1], "graph_steps"), (PATH[2], "finetune_epochs")):
        one, two, three = (seconds(name, **{parameter: n}) for n in (10_000, 20_000, 30_000))
        assert two > 1.8 * one and three - two == pytest.approx(two - one)
    assert seconds(PATH[1], graph_crop=448) > 3 * seconds(PATH[1])


def test_the_papers_graph_steps_take_what_the_measured_rate_says():
    paper = load(ROOT / "params" / "paper.yaml")
    fixed = SECONDS[PATH[1]] - estimate.TRAINED[PATH[1]] * SECONDS[PATH[1]]
    assert estimate.seconds(PATH[1], paper, 1, "GPU NVIDIA H200") - fixed == pytest.approx(40_000 * 192 / 2465)


def test_every_preset_has_a_cost_and_every_stage_an_estimate():
    from gmiqa.experiments.ablations import ROWS
    from gmiqa.settings import TABLE
    assert set(estimate.COST) == set(TABLE["preset"].choices) and estimate.ROWS == len(ROWS)
    assert set(estimate.PICTURES) == set(TABLE["dataset"].choices) - {"synthetic", "folder"}
    assert set(estimate.TRAINED) < set(SECONDS) == set(NEEDS)
