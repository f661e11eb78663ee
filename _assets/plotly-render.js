// Draws the figures of a page when they come near, in the colours of the theme, and
// gives an explored figure its sliders. Everything it needs is in the page.
(function () {
  "use strict";

  const INK = { light: "#2b2f36", dark: "#d8dce2" };
  const FAINT = { light: "rgba(90,98,110,.25)", dark: "rgba(190,198,210,.22)" };
  const NEAR = "600px";
  const NARROW = matchMedia("(max-width: 600px)");
  const figures = [];
  let printing = false;

  const copy = (value) => JSON.parse(JSON.stringify(value));

  function theme() {
    if (printing) return "light";
    const { theme: named, mode } = document.documentElement.dataset;
    if (named === "light" || named === "dark") return named;
    if (mode === "light" || mode === "dark") return mode;
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }

  function colour(layout) {
    const [ink, faint] = [INK[theme()], FAINT[theme()]];
    layout.template = layout.template || {};
    const base = (layout.template.layout = layout.template.layout || {});
    base.font = { ...base.font, color: ink };
    for (const axis of ["xaxis", "yaxis"]) {
      base[axis] = { ...base[axis], gridcolor: faint, zerolinecolor: faint, linecolor: ink };
    }
    return layout;
  }

  // what any frame sets is forgotten before a frame is put on: it may lack a key
  function forget(target, frames) {
    for (const frame of frames) for (const key of Object.keys(frame || {})) delete target[key];
  }

  // on a phone, panels side by side go below each other
  function stack(data, layout) {
    const panels = Object.keys(layout)
      .map((key) => key.match(/^xaxis(\d*)$/))
      .filter((found) => found && layout[`yaxis${found[1]}`])
      .map(([key, id]) => ({ id, x: layout[key], y: layout[`yaxis${id}`] }));
    const oneRow = panels.every(({ x, y }) => x.domain && (!y.domain || y.domain[1] - y.domain[0] > 0.99));
    if (panels.length < 2 || !oneRow) return;
    panels.sort((a, b) => a.x.domain[0] - b.x.domain[0]);
    const gap = 0.14;
    const height = (1 - gap * (panels.length - 1)) / panels.length;
    panels.forEach(({ id, x, y }, k) => {
      const top = 1 - k * (height + gap);
      const [left, right] = x.domain;
      for (const note of layout.annotations || []) {
        const titles = note.xref === "paper" && note.yref === "paper" && note.y >= 0.99;
        if (titles && note.x >= left && note.x <= right && !note.moved) {
          Object.assign(note, { x: 0.5, y: top, moved: true });
        }
      }
      x.domain = [0, 1];
      y.domain = [top - height, top];
      for (const trace of data) {
        if ((trace.xaxis || "x").slice(1) !== id || !trace.colorbar) continue;
        trace.colorbar = { ...trace.colorbar, y: top - height / 2, yanchor: "middle", len: height };
      }
    });
    layout.height = (layout.height || 400) * (1 + 0.75 * (panels.length - 1));
  }

  // the figure at one combination of the sliders
  function picture(one) {
    const data = copy(one.json.data);
    const layout = copy(one.json.layout || {});
    const frame = one.frames.get(one.index.join(","));
    if (frame) {
      const all = [...one.frames.values()];
      frame.traces.forEach((trace, k) => {
        forget(data[trace], all.map((other) => other.data[k]));
        Object.assign(data[trace], copy(frame.data[k]));
      });
      forget(layout, all.map((other) => other.layout));
      Object.assign(layout, copy(frame.layout || {}));
    }
    const title = layout.title && (layout.title.text ?? layout.title);
    delete layout.title; // shown as text above, where it wraps and can be selected
    const legend = layout.showlegend !== false && data.length > 1;
    layout.margin = { ...layout.margin, t: layout.margin?.t ?? (legend ? 36 : 14) };
    layout.autosize = true;
    delete layout.width;
    if (NARROW.matches) stack(data, layout);
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
    return { data, layout: colour(layout), title: typeof title === "string" ? title : "" };
  }

  // plotly's titles may hold a few tags; everything else stays text
  function setTitle(node, text) {
    node.replaceChildren();
    const open = [node];
    for (const part of text.split(/(<\/?(?:b|i|sub|sup)>|<br\s*\/?>)/)) {
      const tag = part.match(/^<(\/?)(b|i|sub|sup|br)\s*\/?>$/);
      const here = open[open.length - 1];
      if (!tag) here.append(part);
      else if (tag[2] === "br") here.append(document.createElement("br"));
      else if (tag[1]) { if (open.length > 1) open.pop(); }
      else {
        const child = document.createElement(tag[2]);
        here.append(child);
        open.push(child);
      }
    }
    node.hidden = !text;
  }

  // before it is drawn, so that the text does not jump
  function makeRoom(one, { layout, title }) {
    one.canvas.style.height = `${layout.height || 400}px`;
    setTitle(one.title, title);
  }

  async function draw(one) {
    if (one.busy) { one.again = true; return; }
    one.busy = true;
    do {
      one.again = false;
      const { data, layout, title } = picture(one);
      const name = one.index.join(",");
      makeRoom(one, { layout, title });
      const config = { responsive: true, displayModeBar: false };
      await (one.drawn
        ? Plotly.react(one.canvas, data, layout, config)
        : Plotly.newPlot(one.canvas, { data, layout, config, frames: one.sliders ? [] : one.json.frames }));
      one.drawn = true;
      one.div.dataset.drawn = "true";
      if (one.sliders) one.div.dataset.frame = name;
    } while (one.again);
    one.busy = false;
  }

  // ---- sliders

  function slider(one, k) {
    const { names, values } = one.sliders;
    const row = document.createElement("label");
    const name = document.createElement("span");
    const input = document.createElement("input");
    const readout = document.createElement("output");
    row.className = "bl-slider";
    name.className = "bl-slider-name";
    name.textContent = names[k];
    readout.className = "bl-slider-value";
    Object.assign(input, { type: "range", min: 0, max: values[k].length - 1, step: 1 });
    input.value = one.index[k];
    input.setAttribute("aria-label", names[k]);
    const widest = Math.max(...values[k].map((v) => String(v).length));
    readout.style.minWidth = `${widest}ch`;
    const say = () => {
      const value = String(values[k][one.index[k]]);
      readout.textContent = value;
      input.setAttribute("aria-valuetext", `${names[k]} ${value}`);
    };
    input.addEventListener("input", () => {
      one.index[k] = Number(input.value);
      say();
      draw(one);
    });
    say();
    row.append(name, input, readout);
    return row;
  }

  function controls(one) {
    const box = document.createElement("div");
    box.className = "bl-explore";
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `controls of the figure: ${one.div.getAttribute("aria-label")}`);
    one.sliders.names.forEach((_, k) => box.append(slider(one, k)));
    one.div.before(box); // not inside: what is inside an image cannot be operated
  }

  function prepare(div) {
    const json = JSON.parse(div.querySelector('script[type="application/json"]').textContent);
    const sliders = json.layout?.meta?.explore || null;
    const one = {
      div, json, sliders,
      index: sliders ? [...sliders.start] : [],
      frames: new Map(sliders ? json.frames.map((frame) => [frame.name, frame]) : []),
      title: document.createElement("div"),
      canvas: document.createElement("div"),
    };
    one.title.className = "bl-title";
    one.canvas.className = "bl-canvas";
    makeRoom(one, picture(one));
    div.append(one.title, one.canvas);
    if (sliders) controls(one);
    figures.push(one);
    return one;
  }

  function start() {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        draw(figures.find((one) => one.div === entry.target));
      }
    }, { rootMargin: NEAR });
    document.querySelectorAll(".bl-plotly").forEach((div) => near.observe(prepare(div).div));
    new MutationObserver(() => figures.filter((one) => one.drawn).forEach(draw))
      .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    NARROW.addEventListener("change", () => figures.filter((one) => one.drawn).forEach(draw));
    addEventListener("beforeprint", () => { printing = true; figures.forEach(draw); });
    addEventListener("afterprint", () => { printing = false; figures.forEach(draw); });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
