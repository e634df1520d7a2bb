"""The plot is an image that a browser can show."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from bench.plot import COLORS, drawn


def case(name: str, **sides: float) -> dict[str, Any]:
    figures = {
        side: {"per_second": rate, "p50": 20.0, "p99": 50.0, "p999": 5_000_000.0} for side, rate in sides.items()
    }
    return {"case": name, "connections": 8, "meanwhile": "", "of_nginx": 0.5, "sides": figures}


def test_every_side_of_every_case_is_drawn():
    """One bar for a rate, one line and a dot for its times; what goes at a given pace has no rate to show."""
    cases = [case("kept <&> connections", broker=1.0, nginx=2.0), case("10,000 a second", broker=1.0, nginx=1.0)]

    image = ET.fromstring(drawn(cases))

    space = "{http://www.w3.org/2000/svg}"
    assert len(image.findall(f"{space}circle")) == 4
    assert len(image.findall(f"{space}rect")) == len(COLORS) + 2 + 4
    assert [text.text for text in image.iter(f"{space}text")].count("kept <&> connections, 8") == 2


def test_nothing_is_drawn_beside_the_image():
    """However far a figure is off."""
    image = ET.fromstring(drawn([case("x", broker=900.0, nginx=1.0)]))

    _, _, width, height = map(float, image.attrib["viewBox"].split())
    for one in image.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(one.attrib["x"]) <= float(one.attrib["x"]) + float(one.attrib["width"]) <= width
        assert 0 <= float(one.attrib["y"]) <= height
