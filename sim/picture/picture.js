"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, kind, text) => {
    const found = document.createElement(tag);
    if (kind) found.className = kind;
    if (text !== undefined) found.textContent = text;
    return found;
  };
  const canvas = $("diagram"), overview = $("overview"), tip = $("tip");
  const GAPS = {
    "client client": 0.5, "client instance": 1, "instance instance": 0.8, "instance redis": 1.7, "instance db": 1.2,
    "client redis": 1, "redis db": 0.5,
  };
  const GUTTER = 74, HEAD = 40, DOT = 4, NEAR = 7;
  const FAMILIES = {
    redis: "command to Redis", reply: "its reply", bus: "pub/sub message", socket: "websocket, Engine.IO and Socket.IO",
    http: "HTTP", db: "look-up of a user", line: "connection opened or ended", other: "other bytes",
  };
  const runs = data.diagrams;
  for (const run of runs) {
    run.arrows.forEach((arrow) => {
      arrow.run = run;
      arrow.text = `${arrow.name} ${arrow.lines.join(" ")} ${arrow.why}`.toLowerCase();
      const said = arrow.lines.join(" · ").replace(/\s+/g, " ").slice(0, 240);
      arrow.label = (arrow.why ? `${arrow.why}: ` : "") + (data.prefix ? said.replaceAll(data.prefix, "") : said);
    });
    run.byName = new Map(run.arrows.map((arrow) => [arrow.name, arrow]));
    run.inTime = [...run.arrows].sort((a, b) => a.top - b.top || a.bottom - b.bottom);
  }
  const view = {
    shown: [0], zoom: 1, top: 0, left: 0, lane: 0, hidden: new Set(), minor: true, query: "", chosen: null, over: null,
  };
  let colors = {}, queued = false;

  // Words

  const clock = (at) => (at >= 1 ? `${at.toFixed(4)} s` : `${(at * 1000).toFixed(2).replace(/\.?0+$/, "")} ms`);
  const lasting = (s) => (s >= 1 ? `${+s.toPrecision(3)} s` : `${+(s * 1000).toPrecision(3)} ms`);
  const lane = (index) => data.lanes[index][0];

  // Geometry

  const lanesShown = () => data.lanes.map((_each, index) => index).filter((index) => !view.hidden.has(index));
  const paneWidth = () => (canvas.clientWidth - GUTTER) / view.shown.length;
  const gapAfter = (index, next) => GAPS[`${data.lanes[index][1]} ${data.lanes[next][1]}`] || 0.8;
  const laneUnits = () => lanesShown().reduce((sum, index, at, all) => sum + (at ? gapAfter(all[at - 1], index) : 0), 0);
  /** The unit that the gaps between lanes are counted in. */
  const laneWidth = () => {
    const room = (paneWidth() - 110) / Math.max(1, laneUnits());
    return view.lane || Math.max(view.shown.length > 1 ? 60 : 90, Math.min(260, room));
  };
  const y = (pixel) => HEAD + 12 + (pixel - view.top) * view.zoom;
  const visible = (arrow) =>
    !view.hidden.has(arrow.source) && !view.hidden.has(arrow.target) && (view.minor || arrow.weight > 0 || arrow.trouble);
  const pageHeight = () => Math.max(40, canvas.clientHeight - HEAD - 44);
  const fitting = () => Math.min(2, pageHeight() / Math.max(1, data.height));
  const pane = (number) => {
    const width = laneWidth(), start = GUTTER + number * paneWidth();
    const places = new Map();
    let where = start + 46 - view.left, before = null;
    for (const index of lanesShown()) {
      where += before === null ? 0 : gapAfter(before, index) * width;
      places.set(index, where);
      before = index;
    }
    return { start, end: start + paneWidth(), run: runs[view.shown[number]], x: (index) => places.get(index) };
  };
  const panes = () => view.shown.map((_each, number) => pane(number));

  const clamp = () => {
    view.zoom = Math.min(6, Math.max(Math.min(0.02, fitting()), view.zoom));
    view.top = Math.min(Math.max(-20, view.top), Math.max(-20, data.height - pageHeight() / view.zoom + 20));
    const wanted = laneWidth() * laneUnits() + 110;
    view.left = Math.min(Math.max(0, view.left), Math.max(0, wanted - paneWidth()));
  };
  const redraw = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; clamp(); draw(); drawOverview(); });
  };
  const zoomAt = (factor, at = canvas.clientHeight / 2) => {
    const pixel = view.top + (at - HEAD - 12) / view.zoom;
    view.zoom *= factor;
    clamp();
    view.top = pixel - (at - HEAD - 12) / view.zoom;
    redraw();
  };
  const goTo = (pixel, share = 0.35) => {
    if (view.zoom < 0.5) view.zoom = 1;
    view.top = pixel - (pageHeight() * share) / view.zoom;
    redraw();
  };

  // Drawing

  const prepare = (target) => {
    const ratio = window.devicePixelRatio || 1, width = target.clientWidth, height = target.clientHeight;
    if (target.width !== Math.round(width * ratio) || target.height !== Math.round(height * ratio)) {
      target.width = Math.round(width * ratio);
      target.height = Math.round(height * ratio);
    }
    const pen = target.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  };
  const readColors = () => {
    const style = getComputedStyle(document.documentElement);
    colors = Object.fromEntries(
      ["paper", "panel", "ink", "soft", "rule", "lane", "red", "red-soft", "amber", "green", "mark", ...Object.keys(FAMILIES)]
        .map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    colors.text = style.getPropertyValue("--text");
    colors.mono = style.getPropertyValue("--mono");
  };
  const cut = (pen, text, room) => {
    const wide = pen.measureText(text).width;
    if (wide <= room) return text;
    const keep = Math.floor((text.length * room) / wide) - 1;
    return keep < 5 ? "" : `${text.slice(0, keep)}…`;
  };
  const colorOf = (arrow) =>
    arrow.trouble === "behind" ? colors.amber : arrow.trouble ? colors.red : colors[arrow.family] || colors.other;
  const matches = (arrow) => !view.query || arrow.text.includes(view.query);

  class Taken {
    constructor() { this.cells = new Set(); }
    /** Whether a text along a line finds its place free; then it takes it. */
    take(x0, y0, x1, y1, force) {
      const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / 9)), keys = [];
      for (let step = 0; step <= steps; step++) {
        const key = `${Math.round((x0 + ((x1 - x0) * step) / steps) / 9)}:${Math.round((y0 + ((y1 - y0) * step) / steps) / 10.5)}`;
        if (this.cells.has(key) && !force) return false;
        keys.push(key);
      }
      keys.forEach((key) => this.cells.add(key));
      return true;
    }
  }

  function draw() {
    const pen = prepare(canvas), height = canvas.clientHeight, width = canvas.clientWidth;
    drawTime(pen, width, height);
    for (const each of panes()) {
      pen.save();
      pen.beginPath();
      pen.rect(each.start, 0, each.end - each.start, height);
      pen.clip();
      drawLanes(pen, each, height);
      drawMarks(pen, each, height);
      drawArrows(pen, each, height);
      drawEnd(pen, each, height);
      drawHead(pen, each);
      pen.restore();
    }
    if (view.shown.length > 1) {
      pen.fillStyle = colors.rule;
      pen.fillRect(GUTTER + paneWidth(), 0, 1, height);
    }
  }

  function drawTime(pen, width, height) {
    pen.font = `11px ${colors.text}`;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    let last = -Infinity;
    for (const each of data.breaks) {
      const from = y(each.top), to = y(each.bottom);
      if (to < HEAD || from > height || to - from < 3) continue;
      pen.fillStyle = colors.panel;
      pen.fillRect(GUTTER, from + 1, width - GUTTER, to - from - 2);
      const middle = (from + to) / 2;
      if (each.seconds >= 0.01 && to - from > 13) {
        pen.fillStyle = colors.soft;
        pen.font = `italic 11px ${colors.text}`;
        pen.fillText(`⋮ ${lasting(each.seconds)}`, GUTTER - 8, middle);
        pen.font = `11px ${colors.text}`;
        pen.strokeStyle = colors.lane;
        pen.beginPath();
        for (let x = GUTTER, up = 1; x <= width; x += 6, up = -up) pen.lineTo(x, middle + 2.5 * up);
        pen.stroke();
        last = middle;
      }
    }
    pen.fillStyle = colors.soft;
    const broken = data.breaks.filter((each) => each.seconds >= 0.01).map((each) => (y(each.top) + y(each.bottom)) / 2);
    for (const [at, pixel] of data.ticks) {
      const where = y(pixel);
      if (where < HEAD + 6 || where > height - 6 || where - last < 26) continue;
      if (broken.some((middle) => Math.abs(middle - where) < 13)) continue;
      last = where;
      pen.fillText(clock(at), GUTTER - 8, where);
    }
  }

  function drawLanes(pen, { x, start, end }, height) {
    pen.lineWidth = 1;
    pen.strokeStyle = colors.lane;
    for (const index of lanesShown()) {
      const where = x(index);
      if (where < start - 2 || where > end + 2) continue;
      pen.beginPath();
      pen.moveTo(where, HEAD);
      pen.lineTo(where, height);
      pen.stroke();
    }
  }

  function drawHead(pen, { x, start, end, run }) {
    pen.fillStyle = colors.paper;
    pen.fillRect(start, 0, end - start, HEAD - 2);
    pen.fillStyle = colors.rule;
    pen.fillRect(start, HEAD - 2, end - start, 1);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const both = view.shown.length > 1;
    if (both) {
      pen.font = `11px ${colors.text}`;
      pen.fillStyle = run.broken ? colors.red : colors.soft;
      pen.textAlign = "left";
      pen.fillText(run === runs[0] ? "this run" : "undisturbed", start + 8, 7);
      pen.textAlign = "center";
    }
    pen.font = `600 12.5px ${colors.text}`;
    const wide = Math.max(0, ...lanesShown().map((index) => pen.measureText(lane(index)).width)) + 8;
    let low = false, before = -Infinity;
    for (const index of lanesShown()) {
      // Where neighbours have no room beside each other, every other name stands lower.
      low = x(index) - before < wide && !low;
      before = x(index);
      pen.fillStyle = data.lanes[index][1] === "client" ? colors.socket : data.lanes[index][1] === "redis" ? colors.redis : colors.ink;
      pen.fillText(lane(index), x(index), (both ? 18 : 13) + (low ? 13 : 0));
    }
  }

  function drawMarks(pen, { x, run, start, end }, height) {
    for (const mark of run.marks) {
      const from = y(mark.top), to = Math.max(from, y(mark.bottom));
      if (to < HEAD - 20 || from > height + 20) continue;
      const lanes = mark.lanes.filter((index) => x(index) !== undefined);
      for (const index of lanes) {
        if (to - from > 2) {
          pen.fillStyle = colors.red;
          pen.globalAlpha = 0.16;
          pen.fillRect(x(index) - 7, from, 14, to - from);
          pen.globalAlpha = 1;
        }
        pen.strokeStyle = colors.red;
        pen.lineWidth = 2.5;
        pen.beginPath();
        pen.moveTo(x(index) - 6, from - 6); pen.lineTo(x(index) + 6, from + 6);
        pen.moveTo(x(index) + 6, from - 6); pen.lineTo(x(index) - 6, from + 6);
        pen.stroke();
      }
      pen.font = `600 12px ${colors.text}`;
      pen.fillStyle = colors.red;
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      const beside = lanes.length ? Math.max(...lanes.map(x)) + 12 : start + 8, wide = pen.measureText(mark.text).width;
      const left = beside + wide < end ? beside : Math.max(start + 8, Math.min(...lanes.map(x)) - 12 - wide);
      pen.lineWidth = 4;
      pen.strokeStyle = colors.paper;
      const room = Math.max(120, end - left - 6);
      pen.strokeText(cut(pen, mark.text, room), left, from);
      pen.fillText(cut(pen, mark.text, room), left, from);
    }
  }

  function drawArrows(pen, { x, run, start, end }, height) {
    const crowded = view.zoom < 0.35, taken = new Taken(), seen = [];
    for (const arrow of run.arrows) {
      const from = y(arrow.top), to = y(arrow.bottom);
      if (Math.max(from, to) < HEAD - 20 || Math.min(from, to) > height + 20 || !visible(arrow)) continue;
      seen.push(arrow);
    }
    const rank = (arrow) => (arrow === view.chosen || arrow === view.over ? 9 : 0) + (arrow.trouble ? 4 : 0) + arrow.weight;
    seen.sort((a, b) => rank(a) - rank(b));
    for (const arrow of seen) {
      const strong = arrow === view.chosen || arrow === view.over, red = arrow.trouble && arrow.trouble !== "behind";
      pen.globalAlpha = !matches(arrow) ? 0.1 : strong || red ? 1 : arrow.weight === 0 ? 0.45 : crowded ? 0.55 : 0.9;
      pen.strokeStyle = pen.fillStyle = colorOf(arrow);
      pen.lineWidth = red ? 2.6 : strong ? 2.4 : arrow.trouble ? 1.8 : arrow.weight === 0 ? 0.8 : 1.25;
      pen.setLineDash(arrow.trouble === "lost" ? [5, 4] : []);
      drawArrow(pen, x(arrow.source), y(arrow.top), x(arrow.target), y(arrow.bottom), crowded && !red && !strong, arrow.trouble === "lost");
    }
    pen.setLineDash([]);
    pen.globalAlpha = 1;
    for (const dot of run.dots) {
      const where = y(dot.y);
      if (x(dot.lane) === undefined || where < HEAD - 8 || where > height + 8) continue;
      pen.beginPath();
      pen.arc(x(dot.lane), where, crowded ? 2 : DOT, 0, 7);
      pen.fillStyle = dot.what === "event" || dot.what === "ack" ? colors.paper : colors.socket;
      pen.strokeStyle = dot.what === "refused" || dot.what === "disconnected" ? colors.red : colors.socket;
      pen.lineWidth = 1.6;
      pen.fill();
      pen.stroke();
      taken.take(x(dot.lane) - 5, where - 3, x(dot.lane) + 5, where - 3, true);
    }
    if (view.zoom < 0.3) return drawLabels(pen, x, seen.filter((arrow) => arrow.trouble || rank(arrow) >= 9), taken);
    drawLabels(pen, x, seen, taken);
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    pen.font = `11px ${colors.text}`;
    for (const dot of run.dots) {
      const where = y(dot.y);
      if (x(dot.lane) === undefined || where < HEAD || where > height) continue;
      const text = cut(pen, dot.text, 150), wide = pen.measureText(text).width;
      if (!text || x(dot.lane) - 9 - wide < start || !taken.take(x(dot.lane) - 9 - wide, where, x(dot.lane) - 9, where)) continue;
      pen.lineWidth = 3.5;
      pen.strokeStyle = colors.paper;
      pen.strokeText(text, x(dot.lane) - 9, where);
      pen.fillStyle = dot.what === "refused" || dot.what === "disconnected" ? colors.red : colors.socket;
      pen.fillText(text, x(dot.lane) - 9, where);
    }
  }

  function drawArrow(pen, x0, y0, x1, y1, plain, lost) {
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
    if (plain) return;
    const angle = Math.atan2(y1 - y0, x1 - x0), size = 7;
    pen.beginPath();
    if (lost) {
      pen.moveTo(x1 - 5, y1 - 5); pen.lineTo(x1 + 5, y1 + 5);
      pen.moveTo(x1 + 5, y1 - 5); pen.lineTo(x1 - 5, y1 + 5);
      pen.stroke();
      return;
    }
    pen.moveTo(x1, y1);
    pen.lineTo(x1 - size * Math.cos(angle - 0.38), y1 - size * Math.sin(angle - 0.38));
    pen.lineTo(x1 - size * Math.cos(angle + 0.38), y1 - size * Math.sin(angle + 0.38));
    pen.fill();
  }

  /** Along the arrows, from where they begin; the weightier first, and only where there is room. */
  function drawLabels(pen, x, arrows, taken) {
    for (const arrow of [...arrows].reverse()) {
      if (!matches(arrow)) continue;
      const red = arrow.trouble && arrow.trouble !== "behind", strong = arrow === view.chosen || arrow === view.over;
      pen.font = `${red || strong ? "600 12px" : "11.5px"} ${arrow.family === "line" ? colors.text : colors.mono}`;
      const x0 = x(arrow.source), y0 = y(arrow.top), x1 = x(arrow.target), y1 = y(arrow.bottom);
      const right = x1 >= x0, long = Math.hypot(x1 - x0, y1 - y0);
      let angle = Math.atan2(y1 - y0, x1 - x0);
      const text = cut(pen, arrow.label, Math.max(long - 30, red ? 200 : 0));
      if (!text) continue;
      if (!right) angle += angle > 0 ? -Math.PI : Math.PI;
      const wide = pen.measureText(text).width, away = right ? 12 : -12, reach = right ? wide : -wide;
      const along = (length) => [x0 + length * Math.cos(angle), y0 + length * Math.sin(angle) - 7];
      if (!taken.take(...along(away), ...along(away + reach), red || strong)) continue;
      pen.save();
      pen.translate(x0, y0);
      pen.rotate(angle);
      pen.textAlign = right ? "left" : "right";
      pen.textBaseline = "alphabetic";
      pen.lineWidth = 4;
      pen.strokeStyle = colors.paper;
      pen.strokeText(text, away, -3.5);
      pen.fillStyle = arrow.weight === 0 && !arrow.trouble ? colors.soft : colorOf(arrow);
      pen.fillText(text, away, -3.5);
      pen.restore();
    }
  }

  function drawEnd(pen, { run, start, end }, height) {
    const where = y(run.end_y);
    if (where < HEAD || where > height + 30) return;
    pen.strokeStyle = run.broken ? colors.red : colors.green;
    pen.lineWidth = run.broken ? 2 : 1.2;
    pen.beginPath();
    pen.moveTo(start, where);
    pen.lineTo(end, where);
    pen.stroke();
    pen.font = `600 12.5px ${colors.text}`;
    const text = cut(pen, run.broken ? `✗ ${run.message}` : `${run.outcome === "held" ? "✓ " : ""}${run.outcome}`, end - start - 30);
    const wide = pen.measureText(text).width;
    pen.fillStyle = run.broken ? colors.red : colors.green;
    pen.fillRect(start + 6, where + 4, wide + 14, 21);
    pen.fillStyle = colors.paper;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillText(text, start + 13, where + 15);
  }

  function drawOverview() {
    const pen = prepare(overview), width = overview.clientWidth, height = overview.clientHeight;
    const scale = (height - 16) / Math.max(1, data.height), run = runs[view.shown[0]], many = new Float32Array(Math.ceil(height / 2) + 1);
    for (const arrow of run.arrows) if (visible(arrow)) many[Math.floor((8 + arrow.top * scale) / 2)] += matches(arrow) ? 1 : 0;
    const most = Math.max(1, ...many);
    pen.fillStyle = view.query ? colors.amber : colors.reply;
    many.forEach((count, row) => count && pen.fillRect(width - 3 - Math.max(2, (count / most) ** 0.6 * (width - 10)), row * 2, Math.max(2, (count / most) ** 0.6 * (width - 10)), 1.6));
    pen.fillStyle = colors.red;
    for (const arrow of run.arrows) if (arrow.trouble && arrow.trouble !== "behind") {
      pen.fillRect(0, 8 + arrow.top * scale - 1, width, 2.5);
      pen.fillRect(0, 8 + arrow.top * scale, 5, Math.max(2.5, (arrow.bottom - arrow.top) * scale));
    }
    for (const mark of run.marks) pen.fillRect(0, 8 + mark.top * scale - 1, width / 2, 2.5);
    if (run.broken) pen.fillRect(0, 8 + run.end_y * scale - 1, width, 3);
    pen.strokeStyle = colors.ink;
    pen.lineWidth = 1.5;
    const from = 8 + view.top * scale, tall = (pageHeight() / view.zoom) * scale;
    pen.strokeRect(1, Math.max(1, from), width - 2, Math.min(height - 2, Math.max(6, tall)));
  }

  // What is under the pointer

  const distance = (px, py, x0, y0, x1, y1) => {
    const dx = x1 - x0, dy = y1 - y0, along = Math.max(0, Math.min(1, ((px - x0) * dx + (py - y0) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(px - x0 - along * dx, py - y0 - along * dy);
  };
  function under(px, py) {
    let best = null, least = NEAR;
    for (const { x, run, start, end } of panes()) {
      if (px < start || px > end || py < HEAD) continue;
      for (const arrow of run.arrows) {
        const y0 = y(arrow.top), y1 = y(arrow.bottom);
        if (py < Math.min(y0, y1) - NEAR || py > Math.max(y0, y1) + NEAR || !visible(arrow)) continue;
        const far = distance(px, py, x(arrow.source), y0, x(arrow.target), y1) + (arrow.weight === 0 ? 1.5 : 0);
        if (far < least) { least = far; best = arrow; }
      }
      for (const dot of run.dots) {
        if (x(dot.lane) === undefined) continue;
        const far = Math.hypot(px - x(dot.lane), py - y(dot.y)) - DOT;
        if (far < Math.min(least, 3)) { least = far; best = dot; }
      }
    }
    return best;
  }
  function describe(into, thing) {
    into.replaceChildren();
    if (thing.what !== undefined) {
      into.append(make("b", "", `${lane(thing.lane)} · ${clock(thing.at)}`), make("p", "line", `${thing.what}: ${thing.text}`));
      return;
    }
    into.append(make(into === tip ? "b" : "h2", "", thing.name));
    into.append(make("p", "dim", `${clock(thing.sent_at)} → ${clock(thing.arrives_at)} (${lasting(thing.arrives_at - thing.sent_at)}) · ${FAMILIES[thing.family] || thing.family}`));
    if (thing.why) into.append(make("p", "bad", thing.why));
    thing.lines.forEach((line) => into.append(make("p", "line", line)));
  }
  function choose(arrow, go) {
    view.chosen = arrow;
    $("chosen").hidden = !arrow;
    if (arrow) {
      describe($("chosen"), arrow);
      const twin = runs.find((run) => run !== arrow.run)?.byName.get(arrow.name);
      if (runs.length > 1) {
        const same = twin && twin.lines.join() === arrow.lines.join();
        const other = arrow.run === runs[0] ? "undisturbed" : "in the disturbed run";
        $("chosen").append(make("p", "dim", !twin ? `${other}: no such message` : `${other}: ${clock(twin.sent_at)} → ${clock(twin.arrives_at)}${same ? "" : ", with other words:"}`));
        if (twin && !same) twin.lines.forEach((line) => $("chosen").append(make("p", "line dim", line)));
      }
      if (go) {
        const where = y(arrow.top);
        if (where < HEAD + 30 || where > canvas.clientHeight - 60 || view.zoom < 0.5) goTo(arrow.top);
      }
    }
    redraw();
  }
  const chooseByName = (name, number = 0) => {
    const arrow = runs[number].byName.get(name);
    if (!arrow) return;
    if (!view.shown.includes(number)) show([number]);
    choose(arrow, true);
  };
  function step(by) {
    const run = runs[view.shown[0]], order = run.inTime.filter((arrow) => visible(arrow) && matches(arrow));
    if (!order.length) return;
    let at = order.indexOf(view.chosen);
    if (at < 0) at = order.findIndex((arrow) => arrow.top >= view.top) - (by > 0 ? 1 : 0);
    choose(order[Math.min(order.length - 1, Math.max(0, at + by))], true);
  }

  // Going somewhere

  const trouble = () => {
    const run = runs[0], first = run.arrows.filter((arrow) => arrow.trouble && arrow.trouble !== "behind").sort((a, b) => a.top - b.top)[0];
    return first ? first.top : run.marks.length ? run.marks[0].top : null;
  };
  const goTrouble = () => { if (trouble() !== null) { if (!view.shown.includes(0)) show([0]); goTo(trouble(), 0.25); } };
  const goEnd = () => { const run = runs[view.shown[0]]; goTo(run.end_y, 0.8); };
  const fit = () => { view.zoom = fitting(); view.top = 0; view.left = 0; redraw(); };
  const widen = (factor) => { view.lane = Math.min(600, Math.max(50, laneWidth() * factor)); redraw(); };
  function show(which) {
    view.shown = which;
    view.left = 0;
    for (const button of $("runs").children) button.setAttribute("aria-pressed", String(button.dataset.runs === which.join()));
    redraw();
  }
  function find(text) {
    view.query = text.trim().toLowerCase();
    const found = view.query ? runs[view.shown[0]].inTime.filter((arrow) => visible(arrow) && matches(arrow)) : [];
    $("found").textContent = view.query ? String(found.length) : "";
    if (found.length && !found.some((arrow) => y(arrow.top) > HEAD && y(arrow.top) < canvas.clientHeight)) goTo(found[0].top);
    redraw();
  }

  // What stands around the diagram

  function fill() {
    $("scenario").textContent = data.scenario;
    $("about").textContent = data.about;
    $("facts").textContent = `on ${data.target} · seed ${data.seed} · ${runs[0].arrows.length} messages · ${clock(runs[0].ends_at)} of virtual time`;
    $("facts").title = Object.entries(data.versions).map(([name, version]) => `${name} ${version}`).join(", ");
    const verdict = $("verdict"), broken = runs[0].broken;
    verdict.classList.toggle("broken", broken);
    verdict.append(make("strong", "", broken ? `✗ ${data.invariant} broken` : runs[0].outcome));
    verdict.append(broken ? data.message.replace(`${data.invariant}: `, "") : data.message || runs[0].title);

    const choices = runs.length > 1 ? [["This run", [0]], ["Undisturbed", [1]], ["Side by side", [0, 1]]] : [["This run", [0]]];
    for (const [name, which] of choices) {
      const button = make("button", "", name);
      button.dataset.runs = which.join();
      button.addEventListener("click", () => show(which));
      $("runs").append(button);
    }
    $("go-trouble").disabled = trouble() === null;
    if (!broken) $("go-end").textContent = "End";

    let before = "";
    data.lanes.forEach(([name, kind], index) => {
      if (kind !== before) {
        const group = data.lanes.map((each, number) => [each[1], number]).filter((each) => each[0] === kind).map((each) => each[1]);
        $("lanes").append(group.length > 1 ? groupButton(kind, group) : make("span", "", ""));
        before = kind;
      }
      const button = make("button", "", name);
      button.dataset.lane = index;
      button.addEventListener("click", () => toggle([index]));
      $("lanes").append(button);
    });
    markLanes();

    if (data.disturbance.length || data.jitter !== null) {
      $("why").append(make("h2", "", "What was disturbed"));
      for (const each of data.disturbance) {
        const arrow = runs[0].byName.get(each.name), p = make("p");
        const button = make("button", "bad", each.text || `hold ${each.name} for ${lasting(each.seconds)}`);
        button.addEventListener("click", () => chooseByName(each.name));
        p.append(button);
        $("why").append(p, make("p", "line", arrow ? arrow.lines.join("\n") : "never sent"));
      }
      if (data.jitter !== null) $("why").append(make("p", "", `every message has a delay of its own (seed ${data.jitter})`));
      if (data.skipped) $("why").append(make("p", "dim", `${data.skipped} client actions were left out: it breaks without them.`));
    }
    for (const order of data.orders) {
      $("orders").append(make("h2", "", "Overtaken at Redis"), make("p", "dim", `on ${order.key}, in the order of arrival`));
      const grid = make("div", "order");
      [["disturbed", 0, "this run"], ["undisturbed", 1, "undisturbed"]].forEach(([key, number, title]) => {
        const column = make("div");
        column.append(make("h3", "", title));
        for (const name of order[key]) {
          const arrow = runs[number].byName.get(name);
          const button = make("button", name === order.held ? "held" : order.passed.includes(name) ? "passed" : "", `${lane(arrow.source)} ${arrow.lines.join(" · ").replaceAll(`${order.key} `, "").replaceAll(order.key, "")}`.slice(0, 90));
          button.addEventListener("click", () => chooseByName(name, number));
          column.append(button);
        }
        grid.append(column);
      });
      $("orders").append(grid);
    }

    for (const entry of data.program) {
      const item = make("li"), bad = entry.what === "fault", button = make("button", bad ? "row bad" : "row");
      button.append(make("span", "", clock(entry.at)), make("span", "", bad ? "✗" : entry.who), make("span", "", entry.what === "emit" ? `emits ${entry.text}` : entry.text));
      button.addEventListener("click", () => goTo(pixelOf(entry.at)));
      item.append(button);
      $("program").append(item);
    }
    if (broken) {
      const item = make("li"), button = make("button", "row bad");
      button.append(make("span", "", clock(runs[0].ends_at)), make("span", "", "✗"), make("span", "", data.invariant));
      button.addEventListener("click", goEnd);
      item.append(button);
      $("program").append(item);
    }
    fillLegend();
  }
  function fillLegend() {
    const used = new Set(runs.flatMap((run) => run.arrows.map((arrow) => arrow.family)));
    const entry = (color, text, kind) => {
      const sign = make("dt", kind);
      sign.style[kind ? "background" : "borderColor"] = `var(--${color})`;
      $("legend").append(sign, make("dd", "", text));
      return sign;
    };
    for (const [family, text] of Object.entries(FAMILIES)) if (used.has(family)) entry(family, text);
    entry("red", "held back, or where a fault struck");
    entry("amber", "waited behind a held message");
    entry("red", "dashed: never arrived").style.borderTopStyle = "dashed";
    entry("socket", "what a client does; hollow: what it sees", "dot");
    const cut = make("dt");
    cut.style.borderColor = "var(--lane)";
    cut.style.borderTopStyle = "dotted";
    $("legend").append(cut, make("dd", "", "shaded: nothing happens, time is cut short"));
  }
  const pixelOf = (at) => {
    let best = 0;
    for (const [moment, pixel] of data.ticks) if (moment <= at + 1e-6) best = pixel;
    return best;
  };
  function groupButton(kind, group) {
    const button = make("button", "", `all ${kind}s`);
    button.dataset.group = group.join();
    button.addEventListener("click", () => toggle(group));
    const holder = make("span", "");
    holder.append(button);
    return holder;
  }
  function toggle(group) {
    const hide = group.some((index) => !view.hidden.has(index));
    group.forEach((index) => (hide ? view.hidden.add(index) : view.hidden.delete(index)));
    markLanes();
    redraw();
  }
  function markLanes() {
    for (const button of $("lanes").querySelectorAll("button")) {
      const group = button.dataset.group ? button.dataset.group.split(",").map(Number) : [Number(button.dataset.lane)];
      button.setAttribute("aria-pressed", String(group.some((index) => !view.hidden.has(index))));
    }
  }

  // Hands

  function listen() {
    let drag = null;
    const local = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? canvas.clientHeight : 1;
      if (event.ctrlKey || event.metaKey) return zoomAt(Math.exp(-event.deltaY * unit * 0.004), local(event)[1]);
      view.top += ((event.shiftKey ? 0 : event.deltaY) * unit) / view.zoom;
      view.left += (event.shiftKey ? event.deltaY : event.deltaX) * unit;
      redraw();
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, top: view.top, left: view.left, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag) {
        const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
        drag.moved ||= Math.hypot(dx, dy) > 4;
        if (drag.moved) { view.top = drag.top - dy / view.zoom; view.left = drag.left - dx; tip.hidden = true; redraw(); }
        return;
      }
      const [px, py] = local(event), found = under(px, py);
      if (found !== view.over) { view.over = found; redraw(); }
      tip.hidden = !found;
      if (!found) return;
      describe(tip, found);
      tip.style.left = `${Math.max(8, Math.min(px + 16, canvas.clientWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${py + 24 + tip.offsetHeight > canvas.clientHeight ? Math.max(4, py - tip.offsetHeight - 14) : py + 18}px`;
    });
    canvas.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) { const found = under(...local(event)); choose(found && found.what === undefined ? found : null); }
      drag = null;
    });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; view.over = null; redraw(); });
    const jump = (event) => {
      const scale = (overview.clientHeight - 16) / Math.max(1, data.height);
      view.top = (event.offsetY - 8) / scale - pageHeight() / view.zoom / 2;
      redraw();
    };
    overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); jump(event); });
    overview.addEventListener("pointermove", (event) => event.buttons && jump(event));
    $("in").addEventListener("click", () => zoomAt(1.4));
    $("out").addEventListener("click", () => zoomAt(1 / 1.4));
    $("fit").addEventListener("click", fit);
    $("wide").addEventListener("click", () => widen(1.25));
    $("narrow").addEventListener("click", () => widen(0.8));
    $("go-trouble").addEventListener("click", goTrouble);
    $("go-end").addEventListener("click", goEnd);
    $("find").addEventListener("input", (event) => find(event.target.value));
    $("find").addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
      if (event.key === "Escape") { event.target.value = ""; find(""); canvas.focus(); }
    });
    $("minor").addEventListener("change", (event) => { view.minor = event.target.checked; redraw(); });
    $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
    const keys = {
      ArrowDown: () => step(1), ArrowUp: () => step(-1), "+": () => zoomAt(1.4), "=": () => zoomAt(1.4), "-": () => zoomAt(1 / 1.4),
      ArrowLeft: () => { view.left -= 60; redraw(); }, ArrowRight: () => { view.left += 60; redraw(); },
      PageDown: () => { view.top += (pageHeight() * 0.85) / view.zoom; redraw(); },
      PageUp: () => { view.top -= (pageHeight() * 0.85) / view.zoom; redraw(); },
      Home: () => { view.top = 0; redraw(); }, End: () => { view.top = data.height; redraw(); },
      f: fit, v: goEnd, h: goTrouble, "[": () => widen(0.8), "]": () => widen(1.25), "/": () => $("find").focus(),
      b: () => { const all = [...$("runs").children]; const at = all.findIndex((each) => each.getAttribute("aria-pressed") === "true"); all[(at + 1) % all.length].click(); },
      Escape: () => choose(null),
    };
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement && event.target.type === "search";
      const scrolls = event.target.closest?.("aside") && event.key.length > 1;
      if (typing || scrolls || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    new ResizeObserver(redraw).observe($("stage"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => theme(event.matches ? "dark" : "light"));
  }
  function theme(name) {
    document.documentElement.dataset.theme = name;
    readColors();
    redraw();
  }

  fill();
  listen();
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  show([0]);
  if (trouble() !== null) goTrouble();
})();
