"""The audit's page in a browser: no network, sorts and filters, light and dark, on paper."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests import browser
from tests.unit.pods.test_audit import TYPED, everything, invoke, owned, pod

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.browser import Page

# Ten of one and nine of the other: sorted as texts, they would change places.
PODS = [
    *(
        pod(f"n{index}", "shoot--a--c", **owned("StatefulSet", "machine-controller-manager-of-nine"))
        for index in range(9)
    ),
    *(pod(f"t{index}", "garden", **owned("StatefulSet", "ten")) for index in range(10)),
    pod("fine", "garden", spec=TYPED),
]
NAMES = """
[...document.querySelectorAll("#namespaces-table tbody tr")].filter(row => !row.hidden)
    .map(row => row.cells[0].textContent)
"""
CLICK = """
[...document.querySelectorAll("#namespaces-table th button")].find(one => one.textContent === %s).click()
"""
FILTER = """
{
    const field = document.querySelector("[data-filter=namespaces-table]");
    field.value = %s;
    field.dispatchEvent(new Event("input"));
}
"""
COLOURS = """
[["body", "color"], ["body", "backgroundColor"], ["b.bad", "color"]].map(([where, name]) =>
    getComputedStyle(document.querySelector(where))[name].match(/[0-9]+/g).slice(0, 3).map(Number))
"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    if (chromium := browser.program()) is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium, or another package with `chromium`")
    code, out, err = invoke("-f", "-", "-o", "html", given=json.dumps({"kind": "List", "items": everything() + PODS}))
    assert (code, err) == (0, "")
    (tmp_path / "audit.html").write_text(out)
    async with browser.opened(tmp_path / "audit.html", chromium, tmp_path / "browser") as found:
        yield found


async def click(page: Page, head: str) -> list[str]:
    """Click the column's head; return the names of the rows, in their order."""
    await page.value(CLICK % json.dumps(head))
    names: list[str] = await page.value(NAMES)
    return names


async def filtered(page: Page, text: str) -> list[str]:
    await page.value(FILTER % json.dumps(text))
    names: list[str] = await page.value(NAMES)
    return names


async def test_the_page_sorts_and_filters_and_asks_for_nothing(page: Page, tmp_path: Path) -> None:
    assert await click(page, "Unprotected") == ["shoot--a--b", "shoot--a--c", "garden"]
    assert await click(page, "Unprotected") == ["garden", "shoot--a--c", "shoot--a--b"]
    assert await page.value('document.querySelector("#namespaces-table th[aria-sort]").ariaSort') == "descending"
    assert await click(page, "Namespace") == ["garden", "shoot--a--b", "shoot--a--c"]
    assert await filtered(page, "SHOOT--A") == ["shoot--a--b", "shoot--a--c"]
    assert await filtered(page, "nothing") == []
    assert await filtered(page, "") == ["garden", "shoot--a--b", "shoot--a--c"]
    assert page.requests == [(tmp_path / "audit.html").as_uri()]
    assert page.troubles == []


async def test_the_page_is_readable_in_light_and_dark_and_on_paper(page: Page) -> None:
    async def seen(scheme: str, media: str = "screen") -> list[list[int]]:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await page.call("Emulation.setEmulatedMedia", media=media, features=features)
        colours: list[list[int]] = await page.value(COLOURS)
        return colours

    for scheme in ("light", "dark"):
        text, back, bad = await seen(scheme)
        assert (luminance(back) > 0.5) == (scheme == "light")
        assert min(contrast(text, back), contrast(bad, back)) >= 4.5, scheme  # WCAG 2 AA
    _, back, _ = await seen("dark", "print")
    assert back == [255, 255, 255]  # ink is not for a background
    assert await page.value('getComputedStyle(document.querySelector("label")).display') == "none"
    await page.call(
        "Emulation.setDeviceMetricsOverride", width=794, height=1123, deviceScaleFactor=1, mobile=False
    )  # A4
    assert await page.value("document.documentElement.scrollWidth") == 794
    printed = await page.call("Page.printToPDF")
    assert base64.b64decode(printed["data"]).startswith(b"%PDF-")


def luminance(colour: list[int]) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [one / 255 / 12.92 if one / 255 <= 0.04045 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[int], other: list[int]) -> float:
    """Source: WCAG 2.2, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
