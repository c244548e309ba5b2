"""Panels as an interactive page, in one file that needs no network: turn, play, step."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ikem_fast.errors import printable
from ikem_fast.files import write_text
from ikem_fast.pictures.raster import FPS, PITCH, THEMES, YAW, fitting_scale
from ikem_fast.pictures.scene import Panel

# No page of this package asks anybody for anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_page(clips: Mapping[str, Sequence[Panel]], path: Path, *, title: str = "") -> None:
    """Write a page on which clips play, their panels side by side, turned by dragging.

    Args:
        clips: what each clip is called → its panels.
        path: file to write.
        title: of the page.

    Example:
        write_page({"waving": modality_panels(clip, modalities, layout)}, Path("clip.html"))
    """
    data = {
        "clips": [
            {"name": printable(name, 120), "scale": fitting_scale(panels), "panels": [*map(packed, panels)]}
            for name, panels in clips.items()
        ],
        **player_settings(),
    }
    write_text(path, document(title, _BODY.format(title=html.escape(printable(title, 200))), _STYLE, [
        player_script(), _SCRIPT
    ], {"data": data}))  # fmt: skip


def document(
    title: str, body: str, style: str, scripts: Sequence[str], data: Mapping[str, Any] | None = None
) -> str:
    """Put a page together: everything in one file, and no way to the network.

    Args:
        title: text, escaped here.
        body, style, scripts: as they are.
        data: id → what scripts find there, as JSON.

    Example:
        document("a < b", "<p>text</p>", "p { color: red }", [])
    """
    islands = "".join(
        f'<script type="application/json" id="{name}">{as_json(value)}</script>\n'
        for name, value in (data or {}).items()
    )
    run = "".join(f"<script>\n{script}</script>\n" for script in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(printable(title, 200))}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n{islands}{run}</body>\n</html>\n"
    )


def as_json(value: Any) -> str:
    """Write JSON that no text in it ends the script it stands in with."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def player_script() -> str:
    """Read the script that plays panels."""
    return Path(__file__).with_name("player.js").read_text(encoding="utf-8")


def player_settings() -> dict[str, Any]:
    """List what the script needs to draw as `raster` does."""
    themes = {name: asdict(theme) for name, theme in THEMES.items()}
    return {"themes": themes, "camera": {"yaw": YAW, "pitch": PITCH}, "fps": FPS}


def packed(panel: Panel, bits: int = 16) -> dict[str, Any]:
    """Pack a panel for the script that plays it, coordinates in 8 or 16 bits."""
    return {
        "title": printable(panel.title, 120),
        "caption": printable(panel.caption, 120),
        "mark": panel.mark,
        "bones": panel.bones,
        "ends": panel.ends,
        "points": packed_array(panel.points, bits),
        "starts": None if panel.starts is None else packed_array(panel.starts, bits),
        "vectors": None if panel.vectors is None else packed_array(panel.vectors, bits),
    }


def packed_array(values: np.ndarray, bits: int) -> dict[str, Any]:
    """Pack numbers (F,K,3), NaN among them, as unsigned integers in base64."""
    none = (1 << bits) - 1
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    step = max(high - low, 1e-6) / (none - 1)
    whole = np.where(np.isfinite(values), np.round((np.nan_to_num(values) - low) / step), none)
    data = whole.astype("<u1" if bits == 8 else "<u2").tobytes()
    return {
        "shape": values.shape[:2],
        "low": low,
        "step": step,
        "bits": bits,
        "data": base64.b64encode(data).decode(),
    }


_BODY = """<header><h1>{title}</h1><select id="clip" aria-label="clip"></select></header>
<main id="panels"></main>
<footer>
<button id="play" aria-label="play or pause"></button>
<input id="frame" type="range" min="0" step="0.01" value="0" aria-label="frame">
<output id="where"></output>
<label>speed <select id="speed"><option>0.25</option><option>0.5</option><option selected>1</option>
<option>2</option></select></label>
<button id="front">front</button>
</footer>
<p class="hint">Drag a picture to turn all of them. Space plays, arrow keys step.</p>"""

_STYLE = """:root { --page: #fff; --panel: #f6f7fb; --text: #171a26; --quiet: #687087; --edge: #e2e5ef;
  --accent: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --page: #0e1018; --panel: #171a26; --text: #eef0f8;
  --quiet: #949cb6; --edge: #262b3d; --accent: #60a5fa; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 20px clamp(12px, 3vw, 36px); background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, footer { display: flex; gap: 14px; align-items: center; flex-wrap: wrap; }
h1 { font-size: 20px; margin: 0; flex: 1; overflow-wrap: anywhere; }
main { display: grid; gap: 12px; margin: 16px 0; grid-template-columns: repeat(3, 1fr); max-width: 1500px; }
@media (max-width: 700px) { main { grid-template-columns: 1fr 1fr; gap: 8px; } }
figure { margin: 0; background: var(--panel); border-radius: 14px; padding: 12px 14px 0; overflow: hidden; }
figcaption b { display: block; } figcaption span { color: var(--quiet); font-size: 13px; }
canvas { width: 100%; aspect-ratio: 1.2; display: block; touch-action: pan-y; cursor: grab; }
canvas:active { cursor: grabbing; }
button, select { font: inherit; color: var(--text); background: var(--panel); border: 1px solid var(--edge);
  border-radius: 9px; padding: 6px 14px; max-width: 100%; }
#play { min-width: 84px; background: var(--accent); border-color: var(--accent); color: var(--page);
  font-weight: 600; }
#frame { flex: 1; min-width: 140px; accent-color: var(--accent); }
output { font-variant-numeric: tabular-nums; color: var(--quiet); min-width: 5em; }
label, .hint { color: var(--quiet); }
@media print { footer, .hint, header select { display: none; } }
"""

_SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent), get = id => document.getElementById(id);
const stage = new Pictures.Stage(data.fps), camera = { ...data.camera };
let frames = 1;
function show(index) {
  const clip = data.clips[index], main = get("panels");
  for (const canvas of main.querySelectorAll("canvas")) stage.remove(canvas);
  main.replaceChildren(...clip.panels.map(panel => {
    const figure = document.createElement("figure"), text = document.createElement("figcaption");
    const name = document.createElement("b"), what = document.createElement("span");
    name.textContent = panel.title, what.textContent = panel.caption;
    text.append(name, what);
    const canvas = document.createElement("canvas");
    figure.append(text, canvas);
    stage.add(canvas, { panel, themes: data.themes, camera, scale: clip.scale });
    frames = panel.points.shape[0];
    return figure;
  }));
  get("frame").max = frames - 1;
  stage.time = 0;
}
function tell() {
  const now = Math.min(stage.time % (frames + 3), frames - 1);
  get("frame").value = now;
  get("where").textContent = `${Math.floor(now) + 1} / ${frames}`;
  get("play").textContent = stage.playing ? "Pause" : "Play";
}
function jump(time) {
  stage.playing = false;
  stage.time = Math.min(Math.max(time, 0), frames - 1);
  stage.redraw(), tell();
}
stage.told = tell;
data.clips.forEach((clip, i) => get("clip").add(new Option(clip.name, i)));
get("clip").hidden = data.clips.length < 2;
get("clip").onchange = event => { show(+event.target.value); tell(); };
get("play").onclick = () => { stage.playing = !stage.playing; tell(); };
get("frame").oninput = event => jump(+event.target.value);
get("speed").onchange = event => { stage.speed = +event.target.value; };
get("front").onclick = () => { camera.yaw = 0, camera.pitch = 0.1; stage.redraw(); };
addEventListener("keydown", event => {
  if (event.target.matches("select, input, button")) return;
  if (event.key === " ") { event.preventDefault(); get("play").click(); }
  if (event.key === "ArrowRight") jump(Math.floor(stage.time % (frames + 3)) + 1);
  if (event.key === "ArrowLeft") jump(Math.floor(stage.time % (frames + 3)) - 1);
});
let held = null;
get("panels").addEventListener("pointerdown", event => {
  if (event.target.matches("canvas")) held = event, event.target.setPointerCapture(event.pointerId);
});
get("panels").addEventListener("pointermove", event => {
  if (!held) return;
  camera.yaw += (event.clientX - held.clientX) / 150;
  camera.pitch = Math.min(Math.max(camera.pitch + (event.clientY - held.clientY) / 250, -0.3), 1.4);
  held = event;
  stage.redraw();
});
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { held = null; });
show(0), tell();
"""
