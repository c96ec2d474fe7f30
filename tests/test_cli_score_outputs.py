"""What the score command writes: maps, the table and the sheet never get into each other's way or into the pictures."""

import os

import pytest
import torch

from gmiqa.cli import main
from gmiqa.data import images
from gmiqa.score.folder import map_path
from gmiqa_core import checkpoints, network


def model(path, seed):
    torch.manual_seed(seed)
    return str(checkpoints.save(network.build("tiny"), path / f"{seed}.safetensors", max_side=64))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return model(tmp_path_factory.mktemp("model"), 0)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folder where the command runs, with pics/0.png to pics/2.png."""
    for i in range(3):
        images.write(torch.rand(3, 40, 48, generator=torch.manual_seed(i)), make(tmp_path / "pics") / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder):
    folder.mkdir(exist_ok=True)
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_table_whose_first_picture_is_gone_is_still_the_other_models(work, checkpoint, tmp_path, capsys):
    command = ["score", "pics", "--csv", "s.csv", "--checkpoint"]
    assert main([*command, checkpoint]) == 0
    before, other = (work / "s.csv").read_bytes(), model(tmp_path, 1)
    images.write(torch.rand(3, 40, 48), work / "pics/new.png")
    (work / "pics/0.png").unlink()
    (work / "pics/1.png").write_bytes(b"no picture any more")
    assert main([*command, other]) == 2 and (work / "s.csv").read_bytes() == before
    assert "another model" in capsys.readouterr().err
    (work / "pics/2.png").unlink()
    assert main([*command, checkpoint]) == 2 and (work / "s.csv").read_bytes() == before
    assert "none of the pictures in s.csv can be read again" in capsys.readouterr().err


def test_a_finished_table_still_gets_the_maps_that_are_missing(work, checkpoint):
    command = ["score", "pics", "--csv", "s.csv", "--checkpoint", checkpoint]
    assert main(command) == 0
    before = (work / "s.csv").read_bytes()
    assert main([*command, "--map", "maps"]) == 0
    assert names(work / "maps") == [f"pics/{i}.png.png" for i in range(3)]
    kept, again = work / "maps/pics/0.png.png", work / "maps/pics/1.png.png"
    kept.write_bytes(b"old")
    again.unlink()
    assert main([*command, "--map", "maps"]) == 0
    assert kept.read_bytes() == b"old" and images.size(again) == (48, 40) and (work / "s.csv").read_bytes() == before


@pytest.mark.parametrize(("here", "paths", "maps"), [
    ("pics", ["."], "."), ("pics", [".", "--recursive"], "maps"), (".", ["pics"], "."),
    (".", ["pics", "--recursive"], "pics/maps"), ("pics", ["0.png", "0.png.png"], "."),
])  # fmt: skip
def test_maps_among_the_pictures_are_refused(work, checkpoint, monkeypatch, capsys, here, paths, maps):
    images.write(torch.rand(3, 40, 48), work / "pics/0.png.png")
    before = names(work)
    monkeypatch.chdir(work / here)
    assert main(["score", *paths, "--map", maps, "--checkpoint", checkpoint]) == 2
    assert f"--map {maps}" in capsys.readouterr().err and names(work) == before


def test_maps_in_a_folder_below_are_fine_where_nothing_below_is_scored(work, checkpoint, monkeypatch):
    monkeypatch.chdir(work / "pics")
    command = ["score", ".", "--map", "maps", "--csv", "../s.csv", "--checkpoint", checkpoint]
    assert main(command) == 0 and main(command) == 0 and names(work / "pics/maps") == [f"{i}.png.png" for i in range(3)]


def test_a_map_beside_its_own_picture_is_fine(work, checkpoint, monkeypatch):
    monkeypatch.chdir(work / "pics")
    assert main(["score", "0.png", "--map", ".", "--checkpoint", checkpoint]) == 0 and os.path.exists("0.png.png")


def test_long_names_keep_maps_of_their_own():
    long = [map_path("maps", f"{'n' * 230}{i}.png") for i in range(2)]
    assert long[0] != long[1] and all(len(os.fsencode(path.name)) <= 224 for path in long)
    assert map_path("maps", f"../{'n' * 216}.png").name == f"{'n' * 216}.png.png"


@pytest.mark.parametrize(("options", "words"), [
    (["--csv", "o.html"], "over the table o.html"),
    (["--csv", "o.csv", "--sheet", "pics/../o.csv"], "over the table o.csv"),
    (["--csv", "pipe"], "--csv pipe is no plain file"), (["--csv", "pics"], "--csv pics is no plain file"),
])  # fmt: skip
def test_a_table_has_a_file_of_its_own(work, checkpoint, capsys, options, words):
    os.mkfifo("pipe")  # to open it would block
    assert main(["score", "pics", *options, "--checkpoint", checkpoint]) == 2
    assert words in capsys.readouterr().err and names(work) == ["pics/0.png", "pics/1.png", "pics/2.png"]


def test_without_a_sheet_a_table_may_have_any_name(work, checkpoint):
    assert main(["score", "pics", "--csv", "o.html", "--worst", "0", "--checkpoint", checkpoint]) == 0
    assert (work / "o.html").read_text().count("\n") == 4
