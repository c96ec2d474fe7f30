"""gmiqa distort, the figures of distortions and the viewer's stand-in."""

import pandas as pd
import pytest
import torch

from gmiqa.cli import main
from gmiqa.data import images
from gmiqa.data.distortions import TYPES, calibration, distort
from gmiqa.figures import distortions as figures
from gmiqa.widgets.distortions import distortion_viewer


@pytest.fixture
def photo(tmp_path):
    image = torch.randint(0, 256, (3, 40, 56), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return images.write(image, tmp_path / "photo.png")


def test_one_distortion_is_written_as_asked(photo, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert main(["distort", str(photo), "--type", "jpeg", "--level", "4", "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    wanted = distort(images.read(photo)[None].float() / 255, 10, 4)[0]
    assert torch.equal(images.read(out), (wanted * 255).round().to(torch.uint8))


def test_the_default_name_tells_type_and_level(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["distort", str(photo), "--type", "11", "--level", "2"]) == 0
    assert (tmp_path / "photo_white_noise_2.png").is_file()


def test_large_pictures_are_reduced_unless_told_otherwise(tmp_path):
    large = images.write(torch.zeros(3, 600, 900, dtype=torch.uint8), tmp_path / "large.png")
    for more, size in (([], (543, 362)), (["--full-size"], (900, 600))):
        assert main(["distort", str(large), "--type", "darken", "-o", str(tmp_path / "o.png"), *more]) == 0
        assert images.size(tmp_path / "o.png") == size


def test_the_grid_is_a_picture(photo, tmp_path):
    assert main(["distort", str(photo), "--grid", "-o", str(tmp_path / "grid.png")]) == 0
    width, height = images.size(tmp_path / "grid.png")
    assert width > 1000 and height > 1000


def test_the_list_names_every_type(capsys):
    assert main(["distort", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(t.name in printed for t in TYPES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--type", "jpg"], "Did you mean 'jpeg'"),
        (["--type", "jpeg", "--level", "6"], "1..5"),
        ([], "--grid"),
        (["--type", "jpeg", "--grid"], "--grid"),
        (["--grid", "-o", "sheet.txt"], "contact sheet"),
        (["--grid", "-o", "nowhere/sheet.png"], "no folder nowhere"),
        (["--grid", "-o", "/proc/sheet.png"], "cannot write /proc/sheet.png"),
        (["--type", "jpeg", "-o", "out.xyz"], "xyz"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, says, photo, capsys):
    assert main(["distort", str(photo), *arguments]) == 2
    printed = capsys.readouterr().err
    assert says in printed and len(printed.strip().splitlines()) == 1


def test_a_missing_picture_is_named(capsys):
    assert main(["distort", "nowhere.png", "--type", "jpeg"]) == 2
    assert "nowhere.png" in capsys.readouterr().err


def test_figures_of_curves_and_data_sets_hold_what_they_are_given():
    metric = torch.rand(25, 5)
    curves = figures.level_curves(metric)
    assert len(curves.axes) == 25
    drawn = curves.axes[0].lines
    assert drawn[1].get_ydata().tolist() == metric[figures.BY_GROUP[0].id - 1].tolist()
    assert len(figures.cells_scatter(metric, 0.9).axes[0].lines) == 7
    table = pd.DataFrame({"quality": [0.1, 0.5, 0.9], "spread": [float("nan")] * 3})
    overview = figures.dataset_overview(table, [(64, 48), (64, 48), (48, 64)])
    assert "none given" in overview.axes[1].texts[0].get_text()


def test_the_viewer_becomes_a_figure_where_nobody_can_use_it():
    picture = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    figure = distortion_viewer({"noise": picture}, "gaussian_blur")
    assert len(figure.axes) == 6 and f"{calibration.QUALITY[0, 4]:.2f}" in figure.axes[5].get_xlabel()


def test_the_viewer_follows_its_controls(monkeypatch):
    monkeypatch.setattr("gmiqa.widgets.distortions.interactive", lambda: True)
    picture = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    box = distortion_viewer({"noise": picture}, "jpeg")
    _, controls, _, row = box.children
    kind, level = controls.children
    after = row.children[1]
    assert "JPEG, level 3" in after.value
    level.value = 5
    assert "JPEG, level 5 (quality 4)" in after.value
    kind.value = 15
    assert "stands in for KADID" in after.value and "DnCNN" in after.value
