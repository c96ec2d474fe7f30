"""The demonstration's widgets without a browser: their static figures, their words, and no silent error."""

import threading

import pytest
import torch

from gmiqa.data import images
from gmiqa.data.distortions import TYPES
from gmiqa.score import Score, Scorer
from gmiqa.widgets import distortion_explorer, folder_ranking, parts, score_picture, side_by_side
from gmiqa.widgets.examples import examples, spoiled_corner
from gmiqa_core import network
from gmiqa_core.errors import UserError

MODULES = (score_picture, distortion_explorer, side_by_side, folder_ranking)


@pytest.fixture(scope="module")
def scorer():
    torch.manual_seed(0)
    return Scorer(model=network.build("tiny"), meta={"max_side": 96, "target": "<i>people</i>"}, device="cpu")


@pytest.fixture(scope="module")
def pictures():
    names, generator = ("first", "second", "<third>"), torch.Generator().manual_seed(0)
    return {name: (torch.rand(3, 48, 64, generator=generator) * 255).to(torch.uint8) for name in names}


@pytest.fixture
def live(monkeypatch):
    """As in JupyterLab; the threads of a widget run to their end at once."""
    for module in MODULES:
        monkeypatch.setattr(module, "interactive", lambda: True)

    class AtOnce(threading.Thread):
        def start(self):
            self.run()

    for module in (distortion_explorer, folder_ranking):
        monkeypatch.setattr(module.threading, "Thread", AtOnce)


def find(box, kind, **traits):
    """All widgets of a kind below a box, in order."""
    matching = [box] if isinstance(box, kind) and all(getattr(box, k) == v for k, v in traits.items()) else []
    for child in getattr(box, "children", ()):
        matching += find(child, kind, **traits)
    return matching


def page(box):
    import ipywidgets as ipw

    return "\n".join(widget.value for widget in find(box, ipw.HTML))


@pytest.mark.parametrize("make", [m.__dict__[m.__name__.rsplit(".")[-1]] for m in MODULES])
def test_under_papermill_each_widget_is_a_figure(make, scorer, pictures):
    figure = make(scorer, pictures)
    assert figure.get_size_inches()[0] == 9.0
    figure.savefig("/dev/null", format="png")


def test_a_single_picture_stands_beside_itself(scorer, pictures):
    figure = side_by_side.side_by_side(scorer, {"only": pictures["first"]})
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["A: only", "B: only"]


def test_a_chosen_picture_is_shown_with_its_score_and_texts(live, scorer, pictures):
    import ipywidgets as ipw

    box = score_picture.score_picture(scorer, pictures)
    assert f"{scorer.score(pictures['first']).quality:.0f}<span" in page(box) and "quality map of first" in page(box)
    find(box, ipw.Dropdown)[0].value = "<third>"
    assert "alt='the picture &lt;third&gt;'" in page(box) and "<third>" not in page(box)
    assert "<i>people" not in page(box)


def test_a_path_joins_the_list_and_a_wrong_one_is_said(live, scorer, pictures, tmp_path):
    import ipywidgets as ipw

    images.write(pictures["second"], tmp_path / "mine.png")
    box = score_picture.score_picture(scorer, pictures)
    path, choice = find(box, ipw.Text)[0], find(box, ipw.Dropdown)[0]
    path.value = str(tmp_path / "none.png")
    assert "said wrong" in page(box) and "no such file" in page(box) and choice.value == "first"
    path.value = f"'{tmp_path / 'mine.png'}'"
    assert choice.value == "mine.png" and "said wrong" not in page(box) and "mine.png, 64 × 48" in page(box)


def test_every_error_in_a_callback_is_said():
    status = parts.Status()

    @status.guard
    def user(_):
        raise UserError("the <file> is broken")

    @status.guard
    def other(_):
        return {}["key"]

    user(None)
    assert "the &lt;file&gt; is broken" in status.value and "wrong" in status.value and "role='status'" in status.value
    other(None)
    assert "KeyError" in status.value
    status.say("fine")
    assert "wrong'" not in status.value


def test_the_explorer_scores_each_step_once_and_draws_the_curve(live, scorer, pictures, monkeypatch):
    import ipywidgets as ipw

    calls = []
    score = scorer.score
    monkeypatch.setattr(scorer, "score", lambda x: calls.append(1) or score(x))
    box = distortion_explorer.distortion_explorer(scorer, pictures)
    assert len(calls) == 6 and all(f"level {v}:" in page(box) for v in range(6))
    find(box, ipw.IntSlider)[0].value = 5
    assert len(calls) == 6 and "JPEG, level 5: quality" in page(box)
    find(box, ipw.Dropdown, description="Distortion")[0].value = 1
    assert len(calls) == 11 and "Gaussian blur, level 5" in page(box)


def test_the_explorer_shows_what_distort_makes_and_scores_it_as_a_file(scorer, pictures):
    steps = distortion_explorer.Steps(scorer, pictures["first"], seed=0)
    for t in (TYPES[9], TYPES[10]):
        picture, score = steps(t.id, 4)
        assert picture.dtype == torch.uint8 and not torch.equal(picture, pictures["first"])
        assert score == scorer.score(images.encode(picture, "png"))
    assert steps(3, 0)[1] == scorer.score(pictures["first"])


@pytest.mark.parametrize(("b", "word"), [(20, "A is better"), (60, "B is better"), (42, "Undecided")])
def test_a_verdict_has_three_outcomes(b, word):
    sentence = side_by_side.verdict(Score(quality=40, sigma=3), Score(quality=b, sigma=4))
    assert sentence.startswith(word) and f"{40 - b:+.1f}" in sentence and f"{40 - b - 1.6449 * 5:+.1f}" in sentence


def test_a_ranking_is_sorted_and_names_what_it_could_not_read(live, scorer, pictures, tmp_path):
    import ipywidgets as ipw

    for i, picture in enumerate(pictures.values()):
        images.write(picture, tmp_path / f"{i}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no")
    box = folder_ranking.folder_ranking(scorer, pictures, str(tmp_path))
    assert "3 pictures ranked, 1 could not be read" in page(box)
    order = sorted(range(3), key=lambda i: scorer.score(list(pictures.values())[i]).quality)
    places = [page(box).index(f"<th scope='row'>{i}.png") for i in order]
    assert places == sorted(places) and page(box).index("broken.jpg") > places[-1]
    find(box, ipw.Text)[0].value = str(tmp_path / "nowhere")
    find(box, ipw.Button, description="Rank")[0].click()
    assert "no folder" in page(box)


def test_a_long_ranking_shows_its_ends(scorer):
    x = torch.zeros(3, 8, 8, dtype=torch.uint8)
    rows = [(f"p{i:03d}", x, Score(quality=i / 2, sigma=1, distortions=(("JPEG", 0.5),))) for i in range(100)]
    table = folder_ranking.ranking_table(rows)
    assert table.count("<img") == folder_ranking.ROWS and "60 more in between" in table
    assert "p000" in table and "p099" in table and "p050" not in table


def test_examples_are_embedded_or_a_folders_first(tmp_path):
    pictures = examples()
    ((name, spoiled),) = spoiled_corner().items()
    whole, (height, width) = pictures["astronaut"], spoiled.shape[1:]
    changed = (spoiled != whole).any(0)
    assert name == "astronaut, noisy corner" and changed[height // 2 :, width // 2 :].float().mean() > 0.9
    assert not changed[: height // 2].any() and not changed[:, : width // 2].any()
    assert len(pictures) == 14 and list(pictures)[:2] == ["astronaut", "astronaut, Gaussian blur 5"]
    images.write(pictures["coffee"], tmp_path / "a.png")
    assert list(examples(str(tmp_path))) == ["a.png"]
    with pytest.raises(UserError, match="nowhere"):
        examples(str(tmp_path / "nowhere"))


def test_examples_leave_out_what_cannot_be_read_and_say_so(tmp_path, capsys):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(UserError, match=r"no folder with pictures .*HEIC"):
        examples(str(tmp_path))
    for i in range(15):
        images.write(torch.zeros(3, 8, 8, dtype=torch.uint8), tmp_path / f"{i:02d}.png")
    (tmp_path / "03.png").write_bytes(b"cut")
    assert list(examples(str(tmp_path))) == [f"{i:02d}.png" for i in range(15) if i != 3]
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("1 of the folder's pictures left out") and "03.png" in said
