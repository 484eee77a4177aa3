/**
 * Live figures without a kernel: the page's widget state (what the notebook stored, as WIDGETS or as JSON in the page) drives
 * each anywidget through its published interface, `initialize({model, signal})` and `render({model, el, signal})`. No module
 * itself: a page opened from a file may not load one.
 */
"use strict";

{
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const STATE = "application/vnd.jupyter.widget-state+json";
  const TEXT = {
    ko: { unsupported: "이 그림은 노트북을 실행해야 움직인다.", failed: "그림을 그리지 못했다: " },
    en: { unsupported: "This figure moves when the notebook runs.", failed: "The figure could not be drawn: " },
  }[document.documentElement.lang === "ko" ? "ko" : "en"];

  /** What a widget's script sees of its Python half: named values, and who listens to their changes. */
  class Model {
    #values;
    #listeners = new Map();

    constructor(values, widget_manager) {
      this.#values = values;
      this.widget_manager = widget_manager;
    }

    get(name) {
      return this.#values[name];
    }

    set(name, value) {
      const changes = typeof name === "string" ? { [name]: value } : name;
      const names = Object.keys(changes).filter((key) => this.#values[key] !== changes[key]);
      for (const key of names) this.#values[key] = changes[key];
      for (const key of names) this.#emit(`change:${key}`, this, changes[key], {});
      if (names.length) this.#emit("change", this, {});
    }

    save_changes() {} // no kernel to tell; whoever listens has heard of each change already

    send() {} // no kernel to hear it

    on(names, callback) {
      for (const name of names.split(/\s+/)) this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), callback]);
    }

    off(names, callback) {
      const all = names == null ? [...this.#listeners.keys()] : names.split(/\s+/);
      for (const name of all) {
        this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter((entry) => callback && entry !== callback));
      }
    }

    #emit(name, ...details) {
      for (const callback of this.#listeners.get(name) ?? []) callback(...details);
    }
  }

  /** The stored state with its binary values put back, as DataViews, at their paths. */
  function decode({ state, buffers = [] }) {
    const values = structuredClone(state);
    for (const { data, path } of buffers) {
      const letters = atob(data);
      const bytes = new Uint8Array(letters.length);
      for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i); // fifteen times as fast as Uint8Array.from
      const holder = path.slice(0, -1).reduce((value, key) => value[key], values);
      holder[path.at(-1)] = new DataView(bytes.buffer);
    }
    return values;
  }

  /** The widget's front end, from the source that it carries; a default export may be the object or a function making it. */
  async function load(source) {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    try {
      const module = await import(url);
      const widget = module.default ?? module;
      return typeof widget === "function" ? await widget() : widget;
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  let state;
  const models = new Map();

  /** The one model of an id with its front end; initialised once, whatever the number of views. */
  function open(id) {
    if (!models.has(id)) models.set(id, prepare(id));
    return models.get(id);
  }

  async function prepare(id) {
    state ??= (typeof WIDGETS === "object" ? WIDGETS : JSON.parse(document.querySelector(`script[type="${STATE}"]`)?.textContent ?? "{}")).state ?? {};
    const entry = state[id];
    if (!entry?.state._esm) return null;
    const get_model = async (other) => (await open(other.replace("IPY_MODEL_", "")))?.model;
    const model = new Model(decode(entry), { get_model });
    const widget = await load(model.get("_esm"));
    const signal = new AbortController().signal;
    await widget.initialize?.({ model, signal });
    if (model.get("_css")) {
      const style = document.createElement("style");
      style.textContent = model.get("_css");
      document.head.append(style);
    }
    return { model, widget, signal };
  }

  async function show(el) {
    const view = JSON.parse(el.previousElementSibling.textContent);
    try {
      const opened = await open(view.model_id);
      if (opened) await opened.widget.render?.({ model: opened.model, el, signal: opened.signal });
      else el.textContent = TEXT.unsupported;
    } catch (error) {
      el.textContent = TEXT.failed + error;
      console.error(error);
    } finally {
      el.style.minHeight = 0;
    }
  }

  // A figure starts when it comes near, in a task of its own; all of them do when somebody is about to print.
  const waiting = new Set();
  function start(el) {
    near.unobserve(el);
    if (waiting.delete(el)) show(el);
  }
  const near = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => isIntersecting && setTimeout(start, 0, target)), { rootMargin: "100%" });
  for (const script of document.querySelectorAll(`script[type="${VIEW}"]`)) {
    const el = script.nextElementSibling;
    waiting.add(el);
    near.observe(el);
  }
  addEventListener("beforeprint", () => waiting.forEach(start));
  addEventListener("keydown", ({ ctrlKey, metaKey }) => (ctrlKey || metaKey) && waiting.forEach(start));
}
