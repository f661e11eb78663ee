// Shows the anywidgets of a page from their saved state, without a kernel. A plain
// ipywidget needs Python, so it leaves a note.
(function () {
  "use strict";

  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const NOTE = "This control needs Python: run this chapter in Jupyter to use it.";
  const modules = new Map(); // source -> promise of the module, shared by its widgets

  function savedModels() {
    const models = {};
    for (const script of document.querySelectorAll(`script[type="${STATE}"]`)) {
      Object.assign(models, JSON.parse(script.textContent).state);
    }
    return models;
  }

  function decode({ data, encoding }) {
    if (encoding === "hex") {
      return new DataView(Uint8Array.from(data.match(/../g) || [], (h) => parseInt(h, 16)).buffer);
    }
    return new DataView(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)).buffer);
  }

  // the state with its binary parts back in place
  function stateOf(saved) {
    const state = structuredClone(saved.state);
    for (const buffer of saved.buffers || []) {
      const keys = buffer.path;
      const parent = keys.slice(0, -1).reduce((part, key) => part[key], state);
      parent[keys[keys.length - 1]] = decode(buffer);
    }
    return state;
  }

  // what an anywidget asks of its model; changes stay in the page
  function fakeModel(saved) {
    const state = stateOf(saved);
    const listeners = new Map();
    const of = (name) => listeners.get(name) || listeners.set(name, new Set()).get(name);
    const tell = (name, ...about) => [...of(name)].forEach((listener) => listener(...about));
    return {
      static: true,
      get: (key) => state[key],
      set(key, value) {
        const changes = typeof key === "string" ? { [key]: value } : key;
        const changed = Object.entries(changes).filter(([name, next]) => state[name] !== next);
        Object.assign(state, Object.fromEntries(changed));
        for (const [name, next] of changed) tell(`change:${name}`, this, next);
        if (changed.length) tell("change", this);
      },
      on(names, listener) { names.split(/\s+/).forEach((name) => of(name).add(listener)); },
      off(names, listener) {
        if (!names) return listeners.clear();
        names.split(/\s+/).forEach((name) => (listener ? of(name).delete(listener) : of(name).clear()));
      },
      save_changes() {},
      send() {},
      widget_manager: {},
    };
  }

  function load(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(url).finally(() => URL.revokeObjectURL(url)));
    }
    return modules.get(source);
  }

  function addStyle(css) {
    if (!css || [...document.querySelectorAll("style.bl-widget")].some((s) => s.textContent === css)) return;
    const style = document.createElement("style");
    style.className = "bl-widget";
    style.textContent = css;
    document.head.append(style);
  }

  async function show(script, models) {
    const saved = models[JSON.parse(script.textContent).model_id];
    const el = document.createElement("div");
    el.className = "bl-widget";
    script.after(el);
    if (!saved || saved.model_module !== "anywidget") {
      el.classList.add("bl-widget-note");
      el.textContent = NOTE;
      return;
    }
    addStyle(saved.state._css);
    const loaded = await load(saved.state._esm);
    let widget = loaded.default || loaded;
    if (typeof widget === "function") widget = await widget();
    const model = fakeModel(saved);
    await widget.initialize?.({ model });
    await widget.render({ model, el });
    el.dataset.drawn = "true";
  }

  function start() {
    const models = savedModels();
    document.querySelectorAll(`script[type="${VIEW}"]`).forEach((script) => show(script, models));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
