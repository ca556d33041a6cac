"""The explorer works by keyboard, with a screen reader, on narrow screens, with large text and in forced colours."""

import pytest
from browser import axe, browser, needs_browser, opened, served, show_by, shown  # noqa: F401
from web_cases import FERRY, flow_file, run_folder, word_flow

pytestmark = needs_browser

PLACES = ("open", "run", "case", "tokens", "long")


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    root = tmp_path_factory.mktemp("access")
    run_folder(root / "run", 40)
    run_folder(root / "other", 40)
    word_flow(root / "ferry.safetensors", FERRY)
    flow_file(root / "long.safetensors", tokens=20_000, rows=64, sentences=800, documents=40)
    with served("explore", str(root)) as url:
        yield url


def go(page, door, place):
    """Go to one of the pages of the explorer."""
    page.goto(door)
    page.wait_for_selector(".open-list")
    if place == "open":
        return
    name = {"run": "run", "case": "run", "tokens": "ferry.safetensors", "long": "long.safetensors"}[place]
    page.locator(".open-list a", has=page.locator(f"b:text-is('{name}')")).click()
    if place in ("run", "case"):
        page.wait_for_selector(".run-grid[aria-rowcount='41'] .run-row")
    if place == "case":
        page.locator(".run-row").nth(1).click()
    if place != "run":
        shown(page)


def afresh(watched, place):
    """Reload the page, so that Tab starts at its beginning."""
    watched.page.reload()
    watched.page.wait_for_selector(
        {"open": ".open-list", "run": ".run-grid[aria-rowcount='41'] .run-row"}.get(place, ".case-chunk")
    )
    watched.settle()


def look(watched, place):
    """Open the parts of the page that appear only in use."""
    page = watched.page
    if place == "run":
        for fold in page.locator(".run-fold summary").all():
            fold.click()
        page.get_by_label("The other run").select_option(label="other")
        page.wait_for_selector(".run-finding")
    if place in ("tokens", "long"):
        page.locator("[data-row='1']").click()
        page.locator(".case-pick").first.click()
        page.wait_for_selector("[role=option][data-heat]")
        page.locator("button.case-open").first.click()
    if place in ("case", "tokens"):
        page.locator(".app-below").scroll_into_view_if_needed()
        watched.settle()
        page.evaluate("scrollTo(0, 0)")
    if place == "case":
        for fold in page.locator("details.case-meta summary").all():
            fold.click()


def axe_in_both_themes(watched):
    """Return the serious findings of axe for each theme, once the page is idle."""
    findings = {}
    for scheme in ("light", "dark"):
        watched.page.emulate_media(color_scheme=scheme)
        watched.settle()
        findings[scheme] = axe(watched.page)
    return findings


@pytest.mark.parametrize("place", PLACES)
def test_axe_reports_no_serious_violation(browser, door, place):  # noqa: F811
    nothing = {"light": [], "dark": []}
    with opened(browser) as watched:
        go(watched.page, door, place)
        assert axe_in_both_themes(watched) == nothing
        look(watched, place)
        assert axe_in_both_themes(watched) == nothing
        if place == "tokens":
            watched.page.get_by_role("button", name="Share").click()
            assert axe_in_both_themes(watched) == nothing
            watched.page.keyboard.press("Escape")
            watched.page.get_by_role("button", name="Keyboard help").click()
            assert axe_in_both_themes(watched) == nothing
        watched.clean()


def test_the_chosen_theme_is_kept(browser, door):  # noqa: F811
    with opened(browser, color_scheme="light") as watched:
        page = watched.page
        page.goto(door)
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = page.evaluate(ground)
        page.get_by_role("button", name="Dark").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        page.get_by_role("button", name="Dark", pressed=True).wait_for()
        assert page.evaluate(ground) == dark
        page.get_by_role("button", name="Auto").click()
        assert page.evaluate(ground) == light
        watched.clean()


# -- by keyboard --------------------------------------------------------------------------------------------------

FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  const label = e.closest('label');
  const seen = (x) => x.outlineStyle !== 'none' || x.boxShadow !== 'none';
  return {
    what: `${e.tagName} ${e.id || e.className} ${(e.ariaLabel ?? e.textContent).trim().slice(0, 40)}`,
    marked: seen(style) || (label !== null && seen(getComputedStyle(label))),
    place: [...document.querySelectorAll('*')].indexOf(e),
  };
}"""

REACHABLE = """() => [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex]')].filter((e) =>
  e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true}) && !e.closest('dialog:not([open])')
).map((e) => [...document.querySelectorAll('*')].indexOf(e))"""


@pytest.mark.parametrize("place", PLACES[:4])
def test_tab_reaches_every_control_with_visible_focus(browser, door, place):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, place)
        afresh(watched, place)
        wanted = set(page.evaluate(REACHABLE))
        met, unmarked = [], []
        for _ in range(len(wanted) + 40):
            page.keyboard.press("Tab")
            focused = page.evaluate(FOCUSED)
            if focused is None or (met and focused["place"] == met[0]):
                break
            met.append(focused["place"])
            if not focused["marked"]:
                unmarked.append(focused["what"])
        else:
            raise AssertionError("Tab never came to the end: there is a trap")
        assert not unmarked, unmarked
        missed = wanted - set(met)
        names = "places => places.map(i => document.querySelectorAll('*')[i].outerHTML.slice(0, 120))"
        assert not missed, page.evaluate(names, [*missed])
        page.keyboard.press("Shift+Tab")  # and back
        watched.clean()


def test_the_skip_link_leads_to_the_content(browser, door):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, "tokens")
        before = page.url
        afresh(watched, "tokens")
        page.keyboard.press("Tab")
        assert "Skip" in page.evaluate("document.activeElement.textContent")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "app-main"
        assert page.url == before
        watched.clean()


def test_a_flow_can_be_read_by_keyboard(browser, door):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, "tokens")

        def says(text):
            page.wait_for_selector(f"#case-selection:has-text('{text}')")

        page.locator("[role=option][tabindex='0']").focus()
        page.keyboard.press("ArrowRight")
        says("answer token 2")
        page.keyboard.press("End")
        says("answer token 4")
        page.keyboard.press("Home")
        says("answer token 1")
        page.keyboard.press("Enter")
        says("kept")
        page.keyboard.press("Shift+ArrowRight")
        says("answer tokens 1 to 2")
        page.keyboard.press("Escape")
        page.wait_for_function("() => document.querySelectorAll('[aria-selected=true][role=option]').length === 0")
        # The live region for screen readers, after the last key.
        page.locator("[role=option]").nth(2).focus()
        page.wait_for_function(
            "() => /Sources of answer token 3 at: largest share [\\d.]+%, from /.test("
            "document.querySelector('.case-bars [aria-live]').textContent)"
        )
        page.locator("#case-prompt").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "slider"
        watched.clean()


def test_the_map_can_be_moved_by_keyboard(browser, door):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, "long")
        slider = page.get_by_role("slider", name="Place in the prompt")
        slider.focus()
        page.keyboard.press("End")
        page.wait_for_function("() => Number(document.querySelector('.case-map').ariaValueNow) > 90")
        page.keyboard.press("PageUp")
        page.wait_for_function("() => Number(document.querySelector('.case-map').ariaValueNow) < 95")
        page.keyboard.press("Home")
        page.wait_for_function("() => Number(document.querySelector('.case-map').ariaValueNow) < 5")
        assert "Document 0" in slider.get_attribute("aria-valuetext")
        watched.clean()


def test_the_share_menu_works_by_keyboard(browser, door):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, "tokens")
        share = page.get_by_role("button", name="Share")
        share.focus()
        page.keyboard.press("Enter")
        focused = "document.activeElement.textContent"
        assert page.evaluate(focused) == "Copy the link"
        page.keyboard.press("ArrowUp")
        assert page.evaluate(focused) == "Everything shown (JSON)"
        page.keyboard.press("ArrowUp")
        assert page.evaluate(focused) == "Table (CSV)"
        with page.expect_download() as waiting:
            page.keyboard.press("Enter")
        assert waiting.value.suggested_filename.endswith(".csv")
        assert page.evaluate(focused) == "Share"
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        assert page.get_by_role("menu").count() == 0
        assert page.evaluate(focused) == "Share"
        watched.clean()


def test_help_opens_and_closes_by_keyboard(browser, door):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, "tokens")
        page.keyboard.press("?")
        dialog = page.get_by_role("dialog", name="Keyboard")
        dialog.wait_for()
        for _ in range(4):
            page.keyboard.press("Tab")
        # The browser's own controls may have the focus, but nothing behind the dialog.
        outside = "document.activeElement !== document.body && !document.activeElement.closest('dialog')"
        assert not page.evaluate(outside)
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        page.get_by_role("button", name="Keyboard help").click()
        dialog.get_by_role("button", name="Close").click()
        dialog.wait_for(state="hidden")
        watched.clean()


def test_shortcuts_are_off_in_text_fields(browser, door):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        go(page, door, "case")
        title = page.locator(".case-header h1").text_content()
        page.locator(".case-found input").focus()
        for key in ("j", "k", "?"):
            page.keyboard.press(key)
        watched.settle()
        assert page.locator(".case-header h1").text_content() == title
        assert page.get_by_role("dialog").count() == 0
        page.locator("h1").first.click()
        page.keyboard.press("Control+j")  # a shortcut of the browser
        assert page.locator(".case-header h1").text_content() == title
        watched.clean()


# -- every screen -------------------------------------------------------------------------------------------------


def overflowing(page):
    """Return how far the page exceeds its width, and the elements that do; "" if it fits."""
    return page.evaluate(
        """() => {
          const over = document.documentElement.scrollWidth - innerWidth;
          if (over <= 0) return '';
          const sticks = (e) => e.getBoundingClientRect().right > innerWidth + 1;
          const wide = [...document.querySelectorAll('main *')].filter(sticks);
          return `${over} px: ${wide.slice(0, 4).map((e) => e.tagName + '.' + e.className).join(', ')}`;
        }"""
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_narrow_screen_scrolls_only_vertically(browser, door, place):  # noqa: F811
    with opened(browser, viewport={"width": 400, "height": 800}) as watched:
        go(watched.page, door, place)
        assert overflowing(watched.page) == ""
        look(watched, place)
        watched.settle()
        assert overflowing(watched.page) == ""
        watched.clean()


@pytest.mark.parametrize("place", PLACES[:4])
def test_text_at_200_percent_fits(browser, door, place):  # noqa: F811
    with opened(browser, viewport={"width": 1280, "height": 800}) as watched:
        go(watched.page, door, place)
        watched.page.evaluate("document.documentElement.style.fontSize = '200%'")
        watched.settle()
        assert overflowing(watched.page) == ""
        assert watched.page.locator("h1").first.is_visible()
        watched.clean()


def test_the_page_works_in_forced_colours(browser, door):  # noqa: F811
    with opened(browser, forced_colors="active") as watched:
        page = watched.page
        go(page, door, "tokens")
        look(watched, "tokens")
        # The bars keep their own colour; a forced background would hide their length.
        bar, track = page.evaluate(
            "() => { const i = document.querySelector('.case-track i');"
            " return [i, i.parentElement].map(e => getComputedStyle(e).backgroundColor); }"
        )
        assert bar != track
        picked = page.locator("[role=option][aria-selected=true]").first
        plain = page.locator("[role=option][aria-selected=false]").first
        line = (
            "e => { const s = getComputedStyle(e);"
            " return [s.outlineStyle, s.textDecorationLine, s.borderBottomWidth, s.backgroundColor].join(); }"
        )
        assert picked.evaluate(line) != plain.evaluate(line)
        watched.clean()


def test_reduced_motion_stops_animations(browser, door):  # noqa: F811
    with opened(browser, reduced_motion="reduce") as watched:
        page = watched.page
        go(page, door, "tokens")
        page.locator("[data-row='1']").hover()
        page.wait_for_selector("#case-selection:has-text('answer token 2')")
        assert page.evaluate("() => document.getAnimations().filter(a => a.playState === 'running').length") == 0
        moving = page.evaluate(
            """() => [...document.querySelectorAll('*')].filter((e) => {
              const s = getComputedStyle(e);
              const slow = s.transitionDuration.split(',').some((t) => parseFloat(t) > 0.01);
              return slow || s.scrollBehavior === 'smooth';
            }).map((e) => e.tagName + '.' + e.className)"""
        )
        assert moving == []
        watched.clean()
