"use strict";
// Plays panels (see scene.py) on canvases. What is data is in JSON beside it; nothing is fetched.
const Pictures = (() => {
  const cache = new Map();
  const motionless = matchMedia("(prefers-reduced-motion: reduce)").matches;

  // {shape, low, step, bits, data}: numbers as unsigned integers in base64, the largest is "none".
  function unpacked(array) {
    if (!array) return null;
    if (cache.has(array)) return cache.get(array);
    const bytes = Uint8Array.from(atob(array.data), c => c.charCodeAt(0));
    const whole = array.bits === 8 ? bytes : new Uint16Array(bytes.buffer);
    const none = array.bits === 8 ? 255 : 65535;
    const values = Float32Array.from(whole, n => (n === none ? NaN : array.low + n * array.step));
    const made = { values, frames: array.shape[0], count: array.shape[1] };
    cache.set(array, made);
    return made;
  }

  // One point between two frames.
  function at(array, time, k) {
    const first = Math.min(Math.floor(time), array.frames - 1), next = Math.min(first + 1, array.frames - 1);
    const share = time - first, a = 3 * (first * array.count + k), b = 3 * (next * array.count + k);
    const v = array.values;
    if (Number.isNaN(v[b])) return [v[a], v[a + 1], v[a + 2]];
    return [0, 1, 2].map(i => v[a + i] + share * (v[b + i] - v[a + i]));
  }

  const channels = color => [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16));
  function mixed(color, other, share) {
    const a = channels(color), b = channels(other), s = Math.min(Math.max(share, 0), 1);
    return "#" + a.map((x, i) => Math.round(x + s * (b[i] - x)).toString(16).padStart(2, "0")).join("");
  }

  function around(v) {
    const length = Math.hypot(...v), axis = v.map(x => x / Math.max(length, 1e-12));
    const least = axis.map(Math.abs).indexOf(Math.min(...axis.map(Math.abs)));
    const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let first = cross(axis, [0, 1, 2].map(i => +(i === least)));
    const norm = Math.hypot(...first);
    first = first.map(x => x / norm);
    const second = cross(axis, first), radius = 0.025 + 0.3 * length;
    return Array.from({ length: 16 }, (_, i) => {
      const angle = 1.5 * Math.PI * i / 15, c = radius * Math.cos(angle), s = radius * Math.sin(angle);
      return [0, 1, 2].map(j => c * first[j] + s * second[j]);
    });
  }

  class Player {
    // options: {panel, themes, camera: {yaw, pitch}, scale, floor, thin}
    constructor(canvas, options) {
      Object.assign(this, { canvas, floor: true, thin: 1, distance: 5 }, options);
      this.points = unpacked(this.panel.points);
      this.starts = unpacked(this.panel.starts);
      this.vectors = unpacked(this.panel.vectors);
      this.frames = this.points.frames;
      this.sides = new Map(this.panel.bones.map(([joint, , side]) => [joint, side]));
      this.pen = canvas.getContext("2d");
    }

    get theme() {
      const dark = matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;
      return this.themes[dark ? "dark" : "light"];
    }

    seen([x, y, z]) {
      const { yaw, pitch } = this.camera;
      const across = -(x * Math.cos(yaw) + z * Math.sin(yaw));
      const flat = z * Math.cos(yaw) - x * Math.sin(yaw);
      const up = y * Math.cos(pitch) + flat * Math.sin(pitch);
      const behind = flat * Math.cos(pitch) - y * Math.sin(pitch);
      const near = this.distance / (this.distance + behind);
      return [this.middle[0] + this.unit * across * near, this.middle[1] - this.unit * up * near, behind];
    }

    line(points, color, width) {
      const pen = this.pen;
      pen.strokeStyle = color;
      pen.lineWidth = width * this.thin;
      pen.beginPath();
      points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.stroke();
    }

    dot([x, y], radius, color) {
      this.pen.fillStyle = color;
      this.pen.beginPath();
      this.pen.arc(x, y, radius * this.thin, 0, 7);
      this.pen.fill();
    }

    arrow(tail, tip, color, width) {
      const length = Math.hypot(tip[0] - tail[0], tip[1] - tail[1]);
      if (length < 1.5) return;
      const head = Math.min(3.6 * width * this.thin, 0.6 * length);
      const along = [0, 1].map(i => (tip[i] - tail[i]) / length);
      const neck = [0, 1].map(i => tip[i] - head * along[i]), across = [-along[1], along[0]];
      this.line([tail, neck], color, width);
      this.pen.fillStyle = color;
      this.pen.beginPath();
      this.pen.moveTo(tip[0], tip[1]);
      for (const s of [0.55, -0.55]) this.pen.lineTo(neck[0] + s * head * across[0], neck[1] + s * head * across[1]);
      this.pen.fill();
    }

    draw(time) {
      const box = this.canvas.getBoundingClientRect(), ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = box.width || this.canvas.width, height = box.height || this.canvas.height;
      if (this.canvas.width !== Math.round(width * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
      }
      this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.pen.clearRect(0, 0, width, height);
      this.pen.lineCap = this.pen.lineJoin = "round";
      // Of 1.3 heights of a body: feet nearer than its root are seen lower.
      this.unit = Math.min(width / (2 * this.scale), (height - 8) / 1.3);
      this.middle = [width / 2, 0.88 * height - 0.4 * (height - 8 - 1.3 * this.unit)];
      const colors = this.theme;
      if (this.floor) this.grid(colors);
      this.bodies(time, colors);
      if (this.vectors) this.marks(time, colors);
    }

    grid(colors) {
      const reach = Math.min(this.scale, 1.2);
      for (let i = 0; i < 7; i++) {
        const o = reach * (i / 3 - 1);
        this.line([this.seen([o, 0, -reach]), this.seen([o, 0, reach])], colors.floor, 0.8);
        this.line([this.seen([-reach, 0, o]), this.seen([reach, 0, o])], colors.floor, 0.8);
      }
    }

    bodies(time, colors) {
      const { mark, ends, bones } = this.panel, plain = mark === "trail";
      const seen = Array.from({ length: this.points.count }, (_, k) => this.seen(at(this.points, time, k)));
      const color = joint => (plain ? colors.sides[this.sides.get(joint) || 0] : colors.faint);
      for (const joint of ends) {
        const way = [];
        for (let back = 0; back <= 9 && time - back >= 0; back++) way.push(this.seen(at(this.points, time - back, joint)));
        for (let i = 0; i + 1 < way.length; i++) {
          const shade = mixed(colors.sides[this.sides.get(joint) || 0], colors.panel, 0.35 + 0.65 * i / 9);
          if (!Number.isNaN(way[i][0] + way[i + 1][0])) this.line([way[i], way[i + 1]], shade, 2.2 * (1 - i / 11));
        }
      }
      if (mark === "stick") return;
      const order = bones.filter(([a, b]) => !Number.isNaN(seen[a][0] + seen[b][0]));
      order.sort((one, other) => seen[other[0]][2] + seen[other[1]][2] - seen[one[0]][2] - seen[one[1]][2]);
      for (const [a, b, side] of order) {
        const far = Math.min(Math.max((seen[a][2] + seen[b][2]) / 2 + 0.1, 0), 0.45);
        this.line([seen[a], seen[b]], mixed(plain ? colors.sides[side] : colors.faint, colors.panel, far), plain ? 4 : 2.6);
      }
      seen.forEach((point, joint) => Number.isNaN(point[0]) || this.dot(point, plain ? 3.1 : 2.2, color(joint)));
    }

    marks(time, colors) {
      const frame = Math.floor(time);  // a vector belongs to its frame
      for (let k = 0; k < this.starts.count; k++) {
        const start = at(this.starts, frame, k), vector = at(this.vectors, frame, k);
        if (Number.isNaN(start[0] + vector[0])) continue;
        const plus = offset => this.seen(start.map((x, i) => x + offset[i]));
        const own = colors.marks[this.panel.title];
        if (this.panel.mark === "turn") {
          this.line([plus([0, 0, 0]), plus(vector)], mixed(own, colors.panel, 0.55), 1.4);
          const arc = around(vector).map(plus);
          this.line(arc.slice(0, -2), own, 1.9);
          this.arrow(arc[12], arc[15], own, 1.9);
        } else if (this.panel.mark === "stick") {
          const side = this.sides.get(k);
          this.arrow(plus([0, 0, 0]), plus(vector), side === undefined ? colors.marks.motion : colors.sides[side], 3.2);
        } else this.arrow(plus([0, 0, 0]), plus(vector), own, 2.2);
      }
    }
  }

  // Plays players that can be seen, each over and over, at `fps` times `speed`.
  class Stage {
    constructor(fps = 15) {
      Object.assign(this, { fps, speed: 1, playing: !motionless, time: 0, players: new Set(), shown: new Set(), told: () => {} });
      this.watch = new IntersectionObserver(found => {
        for (const one of found) {
          const player = one.target.player;
          if (one.isIntersecting) this.shown.add(player), player.draw(this.phase(player));
          else this.shown.delete(player);
        }
      });
      const again = () => this.shown.forEach(player => player.draw(this.phase(player)));
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
      addEventListener("resize", again);
      addEventListener("beforeprint", () => this.players.forEach(player => player.draw(player.frames / 2)));
      let last = performance.now();
      const step = now => {
        if (this.playing && this.shown.size) {
          this.time += (now - last) / 1000 * this.fps * this.speed;
          again();
          this.told();
        }
        last = now;
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    phase(player) {
      return Math.min(this.time % (player.frames + 3), player.frames - 1);  // rests for a moment at the end
    }

    add(canvas, options) {
      const player = new Player(canvas, options);
      canvas.player = player;
      this.players.add(player);
      this.watch.observe(canvas);
      return player;
    }

    remove(canvas) {
      this.watch.unobserve(canvas);
      this.players.delete(canvas.player);
      this.shown.delete(canvas.player);
    }

    redraw() {
      this.shown.forEach(player => player.draw(this.phase(player)));
    }
  }

  return { Stage, Player };
})();
