// The widget of biglearn_lite.figures.paint. It computes everything it says by itself,
// so that it works in Jupyter and on a page without Python alike.

const ABSENT = 0, SOURCE = 1, TARGET = 2;
const NAMES = ["absent", "source", "target"];
const BRUSHES = [[SOURCE, "S", "source: given"], [TARGET, "T", "target: asked for"],
                 [ABSENT, "A", "absent: never seen"]];

// ---- what a painted task is

export function counts(roles) {
  const n = [0, 0, 0];
  for (const role of roles) n[role] += 1;
  return { absent: n[ABSENT], source: n[SOURCE], target: n[TARGET] };
}

export function kindOf(roles) {
  const n = counts(roles);
  if (n.target === 0) return "not a task yet";
  if (n.source > 0) return "conditional";
  return n.absent > 0 ? "marginal" : "joint";
}

// all pairs (S, T) within u shown patches, T not empty
export function countTasks(u) {
  return 3n ** BigInt(u) - 2n ** BigInt(u);
}

export function sayNumber(n) {
  const digits = n.toString();
  if (digits.length <= 12) return digits.replace(/\B(?=(\d{3})+$)/g, ",");
  const exponent = digits.length - 1;
  const mantissa = Math.round(Number(digits.slice(0, 6)) / 1000) / 100;
  return mantissa >= 10 ? `about 1.00 × 10^${exponent + 1}`
    : `about ${mantissa.toFixed(2)} × 10^${exponent}`;
}

const patches = (n) => `${n} patch${n === 1 ? "" : "es"}`;

export function sayTask(roles) {
  const n = counts(roles), kind = kindOf(roles);
  if (n.target === 0) return "Nothing is asked for: paint at least one target.";
  const rest = n.absent ? ` The ${patches(n.absent)} that ${n.absent === 1 ? "is" : "are"} absent need not exist.` : "";
  if (kind === "joint") return `Generate all ${patches(n.target)} from nothing.`;
  if (kind === "marginal") return `Generate ${patches(n.target)} from nothing.${rest}`;
  return `Complete ${patches(n.target)} from the ${patches(n.source)} given.${rest}`;
}

export function sayCount(roles) {
  const n = counts(roles), shown = n.source + n.target;
  if (shown === 0) return "A sample that shows nothing demonstrates no task.";
  const tasks = countTasks(shown);
  return `A sample that shows exactly ${shown === 1 ? "this 1 patch" : `these ${shown} patches`} ` +
    `demonstrates 3^${shown} − 2^${shown} = ${sayNumber(tasks)} task${tasks === 1n ? "" : "s"}.`;
}

// "3^12" with a raised exponent, without any HTML from outside
function setText(node, text) {
  node.replaceChildren();
  for (const part of text.split(/(\^\d+)/)) {
    if (/^\^\d+$/.test(part)) {
      const sup = document.createElement("sup");
      sup.textContent = part.slice(1);
      node.append(sup);
    } else node.append(part);
  }
}

// ---- the canvas

function bytesOf(value) {
  if (!value) return new Uint8Array();
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (h) => parseInt(h, 16));
const toHex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

function pictureOf(bytes, [height, width, channels = 1]) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = bytes[channels === 3 ? 3 * i + c : i];
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function drawAbsent(g, x, y, w, h) {
  g.fillStyle = "#8b93a3";
  g.fillRect(x, y, w, h);
  g.save();
  g.beginPath();
  g.rect(x, y, w, h);
  g.clip();
  g.strokeStyle = "#5b6372";
  g.lineWidth = Math.max(1.5, w / 24);
  for (let d = -h; d < w; d += Math.max(6, w / 5)) {
    g.beginPath();
    g.moveTo(x + d, y + h);
    g.lineTo(x + d + h, y);
    g.stroke();
  }
  g.restore();
}

function drawTarget(g, x, y, w, h) {
  g.fillStyle = "#f6dfae";
  g.fillRect(x, y, w, h);
  g.fillStyle = "#7a4a00";
  g.font = `600 ${Math.round(h * 0.55)}px sans-serif`;
  g.textAlign = "center";
  g.textBaseline = "middle";
  g.fillText("?", x + w / 2, y + h / 2);
}

function drawSource(g, picture, x, y, w, h, cell) {
  const [sw, sh] = [picture.width / cell.cols, picture.height / cell.rows];
  g.drawImage(picture, cell.col * sw, cell.row * sh, sw, sh, x, y, w, h);
  const line = Math.max(2, w / 18);
  g.strokeStyle = "#0a84d0";
  g.lineWidth = line;
  g.strokeRect(x + line / 2, y + line / 2, w - line, h - line);
}

function drawCursor(g, x, y, w, h) {
  for (const [colour, inset] of [["#000", 1.5], ["#fff", 4]]) {
    g.strokeStyle = colour;
    g.lineWidth = 3;
    g.setLineDash(colour === "#fff" ? [6, 4] : []);
    g.strokeRect(x + inset, y + inset, w - 2 * inset, h - 2 * inset);
  }
  g.setLineDash([]);
}

// ---- the widget

function element(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  parent.append(node);
  return node;
}

function render({ model, el }) {
  const rows = model.get("rows"), cols = model.get("cols"), drawing = model.get("is_drawing");
  let picture = pictureOf(bytesOf(model.get("image")), model.get("shape"));
  let roles = [...model.get("roles")];
  let grey = drawing ? fromHex(model.get("pixels")) : null;
  let brush = drawing ? 255 : SOURCE;
  let cursor = 0, focused = false, held = null, changed = false;

  const box = element("div", "bl-paint", el);
  const bar = element("div", "bl-paint-bar", box);
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "brush");
  const canvas = element("canvas", "bl-paint-canvas", box);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  const keys = drawing ? "Arrow keys move, space draws, Delete rubs out."
    : "Arrow keys move; S, T or A set source, target or absent; space uses the brush.";
  canvas.setAttribute("aria-label", `${model.get("label")}, ${rows} by ${cols} cells. ${keys}`);
  element("p", "bl-paint-keys", box, keys);
  const said = element("div", "bl-paint-readout", box);
  const kind = element("strong", "bl-paint-kind", said);
  const sizes = element("span", "bl-paint-sizes", said);
  const task = element("p", "bl-paint-task", said);
  const count = element("p", "bl-paint-count", said);
  const where = element("p", "bl-paint-where", box);
  where.setAttribute("aria-live", "polite");
  const message = element("p", "bl-paint-message", box);
  message.setAttribute("aria-live", "polite");

  const unit = Math.max(1, Math.floor(360 / Math.max(rows, cols)));
  const [w, h] = [unit, unit * (picture.height / rows) / (picture.width / cols)];
  const density = Math.min(3, Math.max(1, globalThis.devicePixelRatio || 1));
  canvas.width = Math.round(w * cols * density);
  canvas.height = Math.round(h * rows * density);
  canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  canvas.style.width = `${w * cols}px`;

  const brushes = drawing ? [[255, "draw", "draw"], [0, "rub out", "rub out"]] : BRUSHES;
  const buttons = brushes.map(([value, key, text]) => {
    const button = element("button", `bl-paint-brush bl-paint-${drawing ? "grey" : NAMES[value]}`, bar, text);
    button.type = "button";
    button.dataset.brush = key;
    button.addEventListener("click", () => { brush = value; mark(); });
    return button;
  });
  const all = element("button", "bl-paint-brush bl-paint-all", bar, drawing ? "clear" : "all");
  all.type = "button";
  all.title = drawing ? "start again" : "give every patch the chosen role";
  all.addEventListener("click", () => {
    if (drawing) grey.fill(0); else roles.fill(brush);
    changed = true;
    show();
    send();
  });

  function mark() {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(brushes[i][0] === brush)));
  }

  function show() {
    const g = canvas.getContext("2d");
    g.setTransform(density, 0, 0, density, 0, 0);
    g.imageSmoothingEnabled = false;
    if (drawing) {
      picture = pictureOf(grey, [rows, cols]);
      g.drawImage(picture, 0, 0, w * cols, h * rows);
    }
    for (let i = 0; i < rows * cols; i++) {
      const cell = { row: Math.floor(i / cols), col: i % cols, rows, cols };
      const [x, y] = [cell.col * w, cell.row * h];
      if (!drawing && roles[i] === ABSENT) drawAbsent(g, x, y, w, h);
      if (!drawing && roles[i] === TARGET) drawTarget(g, x, y, w, h);
      if (!drawing && roles[i] === SOURCE) drawSource(g, picture, x, y, w, h, cell);
      if (!drawing) {
        g.strokeStyle = "#ffffff88";
        g.lineWidth = 1;
        g.strokeRect(x, y, w, h);
      }
    }
    if (focused) drawCursor(g, (cursor % cols) * w, Math.floor(cursor / cols) * h, w, h);
    say();
  }

  function say() {
    if (drawing) {
      const ink = grey.reduce((sum, value) => sum + (value > 0), 0);
      kind.textContent = "drawing";
      sizes.textContent = `${ink} of ${rows * cols} pixels`;
      box.dataset.ink = ink;
      return;
    }
    const n = counts(roles);
    kind.textContent = kindOf(roles);
    sizes.textContent = `|S| = ${n.source}, |T| = ${n.target}, absent ${n.absent}`;
    setText(task, sayTask(roles));
    setText(count, sayCount(roles));
    box.dataset.kind = kindOf(roles);
    box.dataset.roles = roles.join("");
    box.dataset.count = countTasks(n.source + n.target).toString();
  }

  function put(i, value) {
    if (drawing) return ink(i, value);
    if (roles[i] === value) return;
    roles[i] = value;
    changed = true;
    show();
  }

  // a soft pen: full at the pixel, half on its four neighbours
  function ink(i, value) {
    const [row, col] = [Math.floor(i / cols), i % cols];
    for (const [dr, dc, part] of [[0, 0, 1], [0, 1, .5], [0, -1, .5], [1, 0, .5], [-1, 0, .5]]) {
      const [r, c] = [row + dr, col + dc];
      if (r < 0 || c < 0 || r >= rows || c >= cols) continue;
      const old = grey[r * cols + c];
      grey[r * cols + c] = value ? Math.max(old, Math.round(value * part)) : 0;
    }
    changed = true;
    show();
  }

  function send() {
    if (!changed) return;
    changed = false;
    model.set(drawing ? "pixels" : "roles", drawing ? toHex(grey) : [...roles]);
    model.save_changes();
    answer(true);
  }

  function answer(stale = false) {
    const text = model.get("message");
    const waiting = stale && model.static && text;
    message.textContent = waiting
      ? "The model's answer was for the patches shown at first: run this chapter in Jupyter to ask it again."
      : text;
    message.classList.toggle("bl-paint-stale", Boolean(waiting));
    message.hidden = !message.textContent;
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const col = Math.floor((event.clientX - box.left) / box.width * cols);
    const row = Math.floor((event.clientY - box.top) / box.height * rows);
    return row < 0 || col < 0 || row >= rows || col >= cols ? null : row * cols + col;
  }

  canvas.addEventListener("pointerdown", (event) => {
    const cell = cellAt(event);
    if (cell === null || event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    focused = false;
    // painting what has the role already takes it away
    held = !drawing && roles[cell] === brush && brush !== ABSENT ? ABSENT : brush;
    cursor = cell;
    put(cell, held);
    show();
  });
  canvas.addEventListener("pointermove", (event) => {
    const cell = held === null ? null : cellAt(event);
    if (cell === null || cell === cursor) return;
    cursor = cell;
    put(cell, held);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => { held = null; send(); });
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -cols, ArrowDown: cols }[event.key];
    const role = drawing ? { Delete: 0, Backspace: 0 }[event.key]
      : { s: SOURCE, t: TARGET, a: ABSENT }[event.key.toLowerCase()];
    if (step === undefined && role === undefined && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    focused = true;
    const col = cursor % cols;
    const blocked = (step === -1 && col === 0) || (step === 1 && col === cols - 1)
      || cursor + step < 0 || cursor + step >= rows * cols;
    if (step !== undefined && !blocked) cursor += step;
    if (event.key === " ") put(cursor, !drawing && roles[cursor] === brush ? ABSENT : brush);
    if (role !== undefined) put(cursor, role);
    show();
    send();
    const what = drawing ? `grey ${grey[cursor]}` : NAMES[roles[cursor]];
    where.textContent = `row ${Math.floor(cursor / cols) + 1}, column ${cursor % cols + 1}: ${what}`;
  });
  canvas.addEventListener("focus", () => { focused = canvas.matches(":focus-visible"); show(); });
  canvas.addEventListener("blur", () => { focused = false; where.textContent = ""; show(); });

  function fromPython() {
    if (drawing) grey = fromHex(model.get("pixels")); else roles = [...model.get("roles")];
    show();
  }
  const onMessage = () => answer();
  model.on("change:roles", fromPython);
  model.on("change:pixels", fromPython);
  model.on("change:message", onMessage);
  mark();
  show();
  answer();
  return () => {
    model.off("change:roles", fromPython);
    model.off("change:pixels", fromPython);
    model.off("change:message", onMessage);
  };
}

export default { render };
