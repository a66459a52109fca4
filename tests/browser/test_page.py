"""The report page in a real browser: it sorts, explains, compares, stays at home, and fits into a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_results import MARKUP, fake_result

pytestmark = pytest.mark.browser


TABLE_ROWS = "section[data-stream] details[id$=-leaderboard] table.leaderboard tbody tr"


def texts(browser: Any, selector: str) -> list[str]:
    script = "return Array.from(document.querySelectorAll(arguments[0])).map(e => e.textContent.trim())"
    return list(browser.execute_script(script, selector))


def column(browser: Any, name: str, group: str = "group0") -> list[str]:
    """The texts of a column of the leaderboard from top to bottom, without intervals."""
    script = """
    const table = document.querySelector('#' + arguments[0] + ' table.leaderboard');
    const heads = Array.from(table.tHead.rows[0].cells).map(e => e.textContent.trim());
    const index = heads.findIndex(text => text === arguments[1] || text.startsWith(arguments[1] + ' '));
    return Array.from(table.tBodies[0].rows).map(row => row.cells[index].firstChild.textContent.trim());
    """
    return list(browser.execute_script(script, group, name))


def head(browser: Any, name: str) -> Any:
    buttons = browser.find_elements("css selector", "#group0 table.leaderboard thead button")
    return next(button for button in buttons if button.text.split(" ")[0] == name)


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requests(browser: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def number(text: str) -> float:
    return float(text.split(" ")[0].replace("−", "-"))


def test_columns_sort_by_number_and_by_name_in_both_directions(opened: Any) -> None:
    for name in ("F_Acc", "forgetting"):
        best_first = sorted(map(number, column(opened, name)), reverse=name == "F_Acc")
        head(opened, name).click()
        assert list(map(number, column(opened, name))) == best_first
        head(opened, name).click()
        assert list(map(number, column(opened, name))) == best_first[::-1]
    head(opened, "method").click()
    assert column(opened, "method") == ["hyperprompt", "naive", "replay"]
    head(opened, "method").click()
    assert column(opened, "method") == ["replay", "naive", "hyperprompt"]
    sorted_heads = texts(opened, "#group0 th[aria-sort]")
    assert [text.split(" ")[0] for text in sorted_heads] == ["method"]
    assert errors(opened) == []


def test_rows_stay_whole_when_they_are_sorted(opened: Any) -> None:
    def rows() -> dict[str, tuple[str, ...]]:
        names = ("F_Acc", "anytime", "tokens", "added")
        cells = zip(*(column(opened, name) for name in names), strict=True)
        return dict(zip(column(opened, "method"), cells, strict=True))

    before = rows()
    head(opened, "O_Acc").click()
    assert rows() == before


def test_columns_sort_by_keyboard(opened: Any) -> None:
    head(opened, "forgetting").send_keys("\n")
    values = list(map(number, column(opened, "forgetting")))
    assert values == sorted(values)


def test_no_error_is_logged_and_no_request_leaves_the_page(opened: Any, page: Path) -> None:
    for button in opened.find_elements("css selector", "thead button"):
        opened.execute_script("arguments[0].click()", button)
    for summary in opened.find_elements("css selector", ".runs summary"):
        opened.execute_script("arguments[0].click()", summary)
    assert errors(opened) == []
    assert set(requests(opened)) == {page.as_uri()}
    assert opened.title.startswith("ctbench: ")


def test_checker_sees_errors_and_requests(opened: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='missing.png'><script>nothing()</script>", encoding="utf-8")
    opened.get(bad.as_uri())
    assert any("nothing is not defined" in message for message in errors(opened))
    assert (tmp_path / "missing.png").as_uri() in requests(opened)


def test_markup_in_results_is_text(opened: Any) -> None:
    assert opened.title != "owned"
    assert MARKUP in column(opened, "method", "group1")
    assert opened.execute_script("return document.images.length") == 0


def test_cell_shows_its_explanation_by_mouse_keyboard_and_touch(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    cell = opened.find_element("css selector", "#group0 table.matrix tbody tr:nth-child(3) td.own")
    tip = opened.find_element("id", "tip")
    assert not tip.is_displayed()
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    ActionChains(opened).move_to_element(cell).perform()
    assert tip.is_displayed()
    assert tip.text.startswith("kitchen, after stage 2, just learned: ")
    assert "(n = 3)" in tip.text
    box, place = tip.rect, cell.rect
    assert box["y"] + box["height"] <= place["y"] + 1 or box["y"] >= place["y"] + place["height"] - 1, (
        "nothing is covered"
    )
    ActionChains(opened).send_keys("\ue00c").perform()
    assert not tip.is_displayed()
    opened.execute_script("arguments[0].focus()", cell)
    assert tip.is_displayed()
    opened.find_element("css selector", "h1").click()
    assert not tip.is_displayed()
    cell.click()
    assert tip.is_displayed()


def test_two_methods_are_compared(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    first, second = (Select(e) for e in opened.find_elements("css selector", "#group0 form.duel select"))
    first.select_by_visible_text("hyperprompt")
    second.select_by_visible_text("naive")
    captions = texts(opened, "#group0 .duel-out caption")
    shown = "hyperprompt minus naive, points, mean over shared runs (n = 3)"
    assert captions == [shown, "Paired differences over shared runs, points"]
    lines = "document.querySelectorAll('#group0 .duel-out > div:nth-child(2) tbody tr')"
    script = f"return Array.from({lines}).map(e => e.innerText)"
    ours = opened.execute_script(script)
    assert any(line.startswith("O_Acc") and "first better" in line for line in ours)
    first.select_by_visible_text("naive")
    second.select_by_visible_text("hyperprompt")
    assert any(line.startswith("O_Acc") and "second better" in line for line in opened.execute_script(script))
    second.select_by_visible_text("naive")
    assert texts(opened, "#group0 .duel-out") == ["Choose two methods."]
    assert errors(opened) == []


def test_matrices_are_compared_over_the_runs_that_both_have(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    first, second = (Select(e) for e in opened.find_elements("css selector", "#group0 form.duel select"))
    first.select_by_visible_text("replay")
    second.select_by_visible_text("naive")
    assert "(n = 3)" in texts(opened, "#group0 .duel-out caption")[0]
    pairs = [(fake_result("replay", seed=seed), fake_result("naive", seed=seed)) for seed in range(3)]
    wanted = np.mean([one.matrix - other.matrix for one, other in pairs], axis=0) * 100
    found = [number(text) for text in texts(opened, "#group0 .duel-out > div:first-child tbody td")]
    assert found == pytest.approx(wanted.ravel().tolist(), abs=0.0501)
    every = np.mean([fake_result("replay", seed=seed).matrix for seed in range(5)], axis=0)
    assert abs(every - np.mean([other.matrix for _, other in pairs], axis=0) - wanted / 100).max() > 0.001


def test_a_matrix_is_one_stop_of_the_tab_key_and_arrows_go_through_it(opened: Any) -> None:
    cells = "#group0 .matrices figure:first-child td[data-tip]"
    assert opened.execute_script(f"return document.querySelectorAll('{cells}[tabindex=\"0\"]').length") == 1
    start = opened.find_element("css selector", f"{cells}[tabindex='0']")
    opened.execute_script("arguments[0].focus()", start)
    for key in ("\ue015", "\ue014"):  # down, right
        opened.switch_to.active_element.send_keys(key)
    reached = opened.switch_to.active_element
    assert reached.get_attribute("data-tip").startswith("kitchen, after stage 1")
    assert reached.get_attribute("aria-describedby") == "tip"
    assert start.get_attribute("aria-describedby") is None
    assert opened.execute_script(f"return document.querySelectorAll('{cells}[tabindex=\"0\"]').length") == 1


def test_columns_of_wins_sort_by_number(opened: Any) -> None:
    script = """
    const rows = document.querySelectorAll('#group0 table.leaderboard tbody tr');
    rows.forEach((row, place) => {
      const cell = Array.from(row.cells).find(e => /^[0-9]+[/][0-9]+[/][0-9]+$/.test(e.textContent.trim()));
      const wins = [2, 10, 0][place];
      if (cell.getAttribute('data-value') !== String(Number(cell.textContent.split('/')[0]).toFixed(1))) throw place;
      cell.setAttribute('data-value', wins + '.0');
      cell.textContent = wins + '/1/1';
    });
    """
    opened.execute_script(script)
    head(opened, "won/tied/lost").click()
    assert column(opened, "won/tied/lost") == ["0/1/1", "2/1/1", "10/1/1"]


def test_every_run_has_a_command_that_reproduces_it(opened: Any) -> None:
    commands = texts(opened, "#group0 details .command")
    assert len(commands) == 11
    assert "ctbench run --method replay --stream domain --model tiny --seed 2 --control" in commands
    recipe, method = opened.find_elements("css selector", "#group0 .runs details")[:2]
    for element in (recipe, method):
        opened.execute_script("arguments[0].querySelector('summary').click()", element)
    assert "pretrain.tokens" in recipe.text
    for text in ("Settings of the method", "Cost of each stage", "Provenance", "torch 2.13.0", "seed 0"):
        assert text in method.text


def test_mark_of_a_plot_shows_its_numbers(opened: Any) -> None:
    mark = opened.find_element("css selector", "#group0 .chart .entry.e0 use")
    tip = opened.find_element("id", "tip")
    opened.execute_script("arguments[0].dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))", mark)
    assert tip.is_displayed()
    label = texts(opened, "#group0 .legend li")[0]
    assert tip.text.startswith(f"{label}, domains seen, after stage 1: ")
    assert mark.get_attribute("aria-label") == tip.text


def test_legend_highlights_one_method_in_all_plots(opened: Any) -> None:
    first, second = opened.find_elements("css selector", "#group0 .legend li")[:2]
    style = "return getComputedStyle(document.querySelector('#group0 .chart ' + arguments[0])).opacity"
    for item, own, other in ((first, ".e0", ".e1"), (second, ".e1", ".e0")):
        opened.execute_script("arguments[0].focus()", item)
        assert (opened.execute_script(style, own), float(opened.execute_script(style, other)) < 0.5) == ("1", True)
    opened.execute_script("document.activeElement.blur()")
    assert opened.execute_script(style, ".e0") == opened.execute_script(style, ".e1") == "1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_page_and_plots_is_legible_in_both_colour_schemes(opened: Any, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        paper = opened.execute_script(script, "html", "backgroundColor")
        places = (("p", "color"), (".chart text", "fill"), (".leaderboard td", "color"), (".chart .e0 use", "fill"))
        for selector, key in places:
            least = 3.0 if key == "fill" and "use" in selector else 4.5
            assert contrast(opened.execute_script(script, f"#group0 {selector}", key), paper) >= least, selector
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_in_plots_have_an_edge_of_the_page_colour_below_their_letters(opened: Any, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    script = """
    const page = getComputedStyle(document.documentElement).backgroundColor;
    const styles = Array.from(document.querySelectorAll('#group0 .chart text')).map(e => getComputedStyle(e));
    return [styles.length, styles.every(s => s.stroke === page && s.paintOrder.startsWith('stroke') && s.fill !== page)];
    """
    count, have_edges = opened.execute_script(script)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert count > 10
    assert have_edges


def contrast(one: str, other: str) -> float:
    """Contrast of two colours like rgb(1, 2, 3) after WCAG."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [360, 768, 1300])
def test_the_page_never_scrolls_sideways(opened: Any, width: int) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": width < 500},
    )
    try:
        for summary in opened.find_elements("css selector", ".runs summary"):
            opened.execute_script("arguments[0].click()", summary)
        assert opened.execute_script("return window.innerWidth") == width
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        small = "return Math.min(...Array.from(document.querySelectorAll('td, th, p, li, summary, dd'))"
        assert opened.execute_script(small + ".map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 11
        table = opened.find_element("css selector", "#group0 .leaderboard")
        holder = opened.find_element("css selector", "#group0 .scroll")
        assert holder.rect["width"] <= width
        if width == 360:
            assert table.rect["width"] > width, "the table scrolls within its own frame"
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_sections_fold_and_a_link_to_one_opens_it(opened: Any) -> None:
    shown = "return document.querySelector('#group0-plots .charts').checkVisibility()"
    assert opened.execute_script(shown)
    opened.execute_script("document.querySelector('#group0-plots > summary').click()")
    assert not opened.execute_script(shown)
    opened.execute_script("location.hash = '#group0-plots'")
    wait_until(opened, shown)


def test_navigation_stays_on_the_screen(opened: Any) -> None:
    opened.execute_script("window.scrollTo(0, 2000)")
    top = "return document.querySelector('body > nav').getBoundingClientRect().top"
    assert opened.execute_script(top) == 0
    control = "return document.querySelector('h1').getBoundingClientRect().top"
    assert opened.execute_script(control) < 0


def test_only_a_table_that_is_wider_than_the_screen_says_so(opened: Any) -> None:
    hint = "return document.querySelector('#group0-leaderboard .hint').checkVisibility()"
    opened.set_window_size(500, 900)
    wait_until(opened, hint)
    opened.set_window_size(3400, 900)
    wait_until(opened, hint.replace("return ", "return !"))


def wait_until(browser: Any, script: str) -> None:
    """Wait until a script returns true; the browser lays a page out and follows a link in its own time."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 5).until(lambda each: each.execute_script(script))


def test_filters_hide_tables_of_other_streams_and_rows_with_another_trait(opened: Any) -> None:
    def choose(name: str, value: str) -> str:
        script = """
        const select = document.querySelector('form.filters').elements[arguments[0]];
        select.value = arguments[1];
        select.dispatchEvent(new Event('change', { bubbles: true }));
        return document.querySelector('form.filters output').textContent;
        """
        return str(opened.execute_script(script, name, value))

    def visible(selector: str) -> int:
        script = (
            "return Array.from(document.querySelectorAll(arguments[0])).filter(e => e.offsetParent !== null).length"
        )
        return int(opened.execute_script(script, selector))

    every = visible("section[data-stream]")
    assert every == 2
    rows = visible("#group0 table.leaderboard tbody tr")
    assert choose("stream", "temporal").startswith("1 of 2 tables, ")
    assert visible("section[data-stream]") == visible("nav li[data-section]") == 1
    assert choose("stream", "").startswith("2 of 2 tables, ")
    assert choose("trait", "+grows").endswith(f"0 of {len(texts(opened, TABLE_ROWS))} rows")
    assert visible("#group0 table.leaderboard tbody tr") == 0
    choose("trait", "-grows")
    assert visible("#group0 table.leaderboard tbody tr") == rows > 0
    assert errors(opened) == []


def test_a_row_leads_to_the_command_of_its_runs(opened: Any) -> None:
    for fold in opened.find_elements("css selector", "#group0-runs"):
        opened.execute_script("arguments[0].open = false", fold)
    link = opened.find_element("css selector", "#group0 table.leaderboard tbody th a")
    name = link.text
    opened.execute_script("arguments[0].click()", link)
    shown = texts(opened, "details:target .command")
    assert shown and all(f"ctbench run --method {name} " in command for command in shown)
    assert opened.find_element("css selector", "details:target .command").is_displayed()
