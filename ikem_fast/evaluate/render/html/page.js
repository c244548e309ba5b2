"use strict";
// What a page of results tells where a pointer is, and which clips play there. Its data is JSON beside it.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const stage = new Pictures.Stage(data.clips ? data.clips.fps : data.fps);

function text(element, ...parts) {
  element.replaceChildren(...parts.map(part => {
    if (typeof part === "string") return document.createTextNode(part);
    const span = document.createElement("span");
    span.textContent = part.text, span.style.color = part.color;
    return span;
  }));
}

// The place of a pointer in an SVG's own units.
function place(svg, event) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [(event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height];
}

for (const svg of all("[data-chart]")) {
  const chart = data.charts[svg.dataset.chart], cross = svg.querySelector(".cross");
  const told = svg.parentElement.querySelector(".told"), [left, , right] = chart.frame;
  const leave = () => { cross.setAttribute("visibility", "hidden"); text(told, ""); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", event => {
    const [x0, x1] = chart.range, x = x0 + (place(svg, event)[0] - left) / (right - left) * (x1 - x0);
    if (x < x0 || x > x1) return leave();
    let found = x;
    const parts = chart.lines.map(line => {
      let nearest = 0;
      line.x.forEach((other, i) => { if (Math.abs(other - x) < Math.abs(line.x[nearest] - x)) nearest = i; });
      found = line.x[nearest];
      const y = line.y[nearest];
      const color = getComputedStyle(document.documentElement).getPropertyValue("--" + line.kind);
      return { text: `${line.label} ${y === null ? "–" : y.toFixed(chart.digits)}   `, color };
    });
    const at = left + (found - x0) / (x1 - x0) * (right - left);
    cross.setAttribute("x1", at), cross.setAttribute("x2", at), cross.setAttribute("visibility", "visible");
    text(told, `${chart.name} ${Math.round(found)}:  `, ...parts);
  });
}

for (const svg of all(".confusion")) {
  const { classes, counts, room } = data.confusion, told = svg.parentElement.querySelector(".told");
  svg.addEventListener("pointermove", event => {
    const frame = svg.querySelector(".frame"), side = +frame.getAttribute("width");
    const [column, row] = place(svg, event).map(x => Math.floor((x - room) / side * classes.length));
    if (!counts[row] || counts[row][column] === undefined) return text(told, "");
    const total = counts[row].reduce((sum, n) => sum + n, 0), n = counts[row][column];
    const share = total ? Math.round(100 * n / total) : 0;
    text(told, `${classes[row]} → ${classes[column]}: ${n} of ${total} (${share} %)`);
  });
}

function playable(index, thin = 1) {
  const points = data.clips.points[index], count = points.shape[1];
  const panel = { title: "", mark: "trail", ends: [], points, bones: data.clips.bones[count], starts: null, vectors: null };
  return { panel, themes: data.themes, camera: data.camera, scale: points.scale, thin };
}

function play(canvas, index, thin) {
  if (canvas.player) stage.remove(canvas);
  stage.add(canvas, playable(index, thin));
}

for (const canvas of all("canvas[data-clip]")) play(canvas, +canvas.dataset.clip, 0.6);

const map = document.querySelector(".map");
if (map) {
  const card = map.querySelector(".card"), [name, what, more] = all("p", card);
  const points = all("circle", map);
  let chosen = null;
  function show(circle) {
    const one = data.map[+circle.dataset.point];
    points.forEach(other => other.classList.toggle("on", other === circle));
    play(card.querySelector("canvas"), one.clip, 0.8);
    text(name, data.classes[one.label]);
    text(what, one.taken === null || one.taken === one.label ? "" : `taken for ${data.classes[one.taken]}`);
    text(more, one.name);
  }
  points.forEach(circle => {
    circle.addEventListener("pointerenter", () => show(circle));
    circle.addEventListener("click", () => show(circle));
    circle.addEventListener("focus", () => show(circle));
  });
  show(points[0]);
  for (const button of all(".classes button", map)) {
    button.addEventListener("click", () => {
      chosen = chosen === button.dataset.label ? null : button.dataset.label;
      all(".classes button", map).forEach(one => one.setAttribute("aria-pressed", one.dataset.label === chosen));
      points.forEach(circle => circle.classList.toggle("off", chosen !== null && circle.dataset.label !== chosen));
    });
  }
}

addEventListener("beforeprint", () => all("details").forEach(one => { one.open = true; }));
