"""The demonstration in a real browser: JupyterLab and Voila, mouse and keyboard."""

import re
import time

import pytest

pytestmark = pytest.mark.timeout(600)


def chooser(page, number=0):
    return page.locator(".gmiqa-chooser").nth(number)


def upload(page, path, number=0):
    with page.expect_file_chooser() as dialogue:
        chooser(page, number).get_by_role("button", name=re.compile("Upload a picture")).click()
    dialogue.value.set_files(path)


def status(page, number=0):
    return chooser(page, number).locator("[role=status]")


def card(page):
    return page.locator(".gmiqa", has=page.locator(".big")).first


def test_the_page_shows_a_score_with_its_interval_and_no_error(demo):
    card(demo).get_by_text("of 100").wait_for()
    assert re.search(r"90 %: \d+ to \d+", card(demo).inner_text())
    assert demo.get_by_text("Quality by place").is_visible()
    assert demo.locator(".said.wrong").count() == 0
    assert "Traceback" not in demo.content()


def test_every_picture_has_a_text_and_every_control_a_name(demo):
    for image in demo.locator(".gmiqa img").all():
        assert image.get_attribute("alt") is not None
    assert demo.locator(".gmiqa figure img[alt*='quality map of']").count() == 1
    for name in ("Picture", "Distortion", "Picture A", "Picture B"):
        assert demo.get_by_role("combobox", name=name, exact=True).count() >= 1
    assert demo.get_by_role("textbox", name="Folder").count() == 1
    assert demo.get_by_role("textbox", name="or path").count() == 4


def test_an_uploaded_picture_is_scored(demo, folder):
    upload(demo, folder / "pictures" / "mine.png")
    demo.get_by_text("mine.png, 120 × 90 pixels").wait_for()
    demo.locator("img[alt*='quality map of mine.png']").wait_for()


def test_a_broken_upload_says_so_and_the_page_goes_on(demo, folder):
    upload(demo, folder / "pictures" / "broken.jpg")
    status(demo).get_by_text("cannot read broken.jpg: it is no picture of a known format").wait_for()
    chooser(demo).get_by_role("combobox").select_option("coffee")
    demo.get_by_text("coffee, 600 × 400 pixels").wait_for()
    assert status(demo).inner_text() == ""


def test_too_large_an_upload_is_refused_in_words_before_it_is_sent(demo, folder):
    assert demo.get_by_text("up to 5 MB; give larger files by their path").first.is_visible()
    upload(demo, folder / "large.jpg")
    status(demo).get_by_text("large.jpg has 6 MB; uploads go up to 5 MB here. Type its path instead.").wait_for()
    chooser(demo).get_by_role("combobox").select_option("china")
    demo.get_by_text("china, 640 × 427 pixels").wait_for()
    assert status(demo).inner_text() == ""


def test_a_path_is_scored_and_a_wrong_one_is_named(demo, folder):
    box = chooser(demo).get_by_role("textbox", name="or path")
    box.fill(str(folder / "nothing.png"))
    box.press("Enter")
    status(demo).get_by_text("no such file").wait_for()
    box.fill(str(folder / "pictures" / "other.png"))
    box.press("Enter")
    demo.get_by_text("other.png, 120 × 90 pixels").wait_for()


def test_the_explorer_follows_the_keyboard_alone(demo):
    kind = demo.get_by_role("combobox", name="Distortion")
    kind.focus()
    kind.press("ArrowDown")  # the next blur
    demo.get_by_text("Lens blur, level 3:").wait_for()
    demo.keyboard.press("Tab")
    slider = demo.locator(".noUi-handle").first
    assert slider.evaluate("element => element === document.activeElement")
    started = time.monotonic()
    demo.keyboard.press("ArrowRight")
    demo.get_by_text("Lens blur, level 4:").wait_for()
    print(f"one step in {demo.front}: {time.monotonic() - started:.2f} s")
    demo.locator("svg[aria-label^='Lens blur, quality by level: level 0:'][aria-label*='level 5:']").wait_for()


def test_the_explorer_takes_every_distortion_and_an_upload(demo, folder):
    kind = demo.get_by_role("combobox", name="Distortion")
    for name in ("compression: JPEG2000", "noise: Impulse noise", "spatial: Colour blocks", "tone: Contrast change"):
        kind.select_option(name)
        demo.get_by_text(re.compile(f"{name.split(': ')[1]}, level [345]:")).wait_for()
    upload(demo, folder / "pictures" / "mine.png", number=1)
    demo.locator("img[alt^='mine.png, Contrast change, level']").wait_for()


def test_two_pictures_get_a_verdict(demo):
    demo.get_by_role("combobox", name="Picture A", exact=True).select_option("rocket")
    demo.get_by_text("A: rocket").wait_for()
    line = demo.get_by_text(re.compile("A minus B is")).first.inner_text()
    assert line.startswith(("Undecided:", "A is better:", "B is better:")) and "90 % interval" in line


def test_a_folder_is_ranked_with_its_broken_file_named(demo, folder):
    box = demo.get_by_role("textbox", name="Folder")
    box.fill(str(folder / "nowhere"))
    box.press("Tab")
    demo.get_by_role("button", name="Rank").click()
    demo.get_by_text("no folder").wait_for()
    box.fill(str(folder / "pictures"))
    box.press("Tab")
    demo.get_by_role("button", name="Rank").focus()
    demo.keyboard.press("Enter")
    demo.get_by_text("2 pictures ranked, 1 could not be read").wait_for()
    row = demo.get_by_role("row", name=re.compile("broken.jpg"))
    assert "no picture of a known format" in row.inner_text()


def test_everything_can_be_reached_with_the_tab_key(demo):
    chooser(demo).get_by_role("combobox").focus()
    reached = []
    for _ in range(40):
        demo.keyboard.press("Tab")
        reached.append(demo.evaluate("() => (e => e.className + ' ' + e.textContent)(document.activeElement)"))
    for control in ("Upload a picture", "noUi-handle", "Rank"):
        assert any(control in element for element in reached), control
