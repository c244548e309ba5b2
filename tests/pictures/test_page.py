"""Pages stand alone, hold the numbers that they are of, and no name in them is obeyed."""

import base64
import json
import re

import numpy as np
import pytest

from ikem_fast.pictures import body_panel, write_page
from ikem_fast.pictures.page import document, packed_array
from tests.pages import scripts_and_links

HOSTILE = "</script><script>alert(1)</script><img src=http://x onerror=alert(2)>"
CLIP = np.random.default_rng(0).normal(size=(3, 5, 25, 2)).astype(np.float32)


def unpacked(array):
    whole = np.frombuffer(base64.b64decode(array["data"]), f"<u{array['bits'] // 8}")
    values = array["low"] + whole.astype(np.float64) * array["step"]
    return np.where(whole == (1 << array["bits"]) - 1, np.nan, values).reshape(*array["shape"], 3)


@pytest.mark.parametrize("bits", [8, 16])
def test_numbers_come_back_to_a_step_and_nothing_stays_nothing(bits):
    values = np.random.default_rng(0).normal(size=(4, 7, 3))
    values[2, 3] = np.nan
    array = packed_array(values, bits)
    np.testing.assert_allclose(unpacked(array), values, atol=0.51 * array["step"])


def test_a_page_stands_alone_and_obeys_no_name(tmp_path):
    panel = body_panel(CLIP, "ntu-rgb+d", title=HOSTILE, caption=HOSTILE)
    write_page({HOSTILE: [panel]}, tmp_path / "a.html", title=HOSTILE)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    scripts, links = scripts_and_links(text)
    assert not links and len(scripts) == 3
    assert "alert(1)</script>" not in text and "<img" not in text
    data = json.loads(scripts[0])
    assert data["clips"][0]["name"].startswith("</script><script>")
    np.testing.assert_allclose(unpacked(data["clips"][0]["panels"][0]["points"]), panel.points, atol=1e-4)


def test_a_page_may_not_reach_the_network():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', document("a", "b", "c", []))[1]
    assert "default-src 'none'" in policy and "http" not in policy
