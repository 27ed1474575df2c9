// The published frames, through the view that was baked with them. Pictures are decoded before they are shown, so that
// flipping never shows half of one; those beside the current one are fetched ahead.

import { busy } from "./page.js";

const AHEAD = 12;
const KEPT = 240;
const seen = new WeakSet();

/** Bring every viewer on the page to life that isn't yet. */
export function findViewers() {
  for (const root of document.querySelectorAll(".viewer[data-viewer]")) {
    if (!seen.has(root)) {
      seen.add(root);
      if (root.querySelector(".frame")) new Viewer(root);
    }
  }
}

/** A measure in as few digits as tell it. */
const short = (value) => (value === 0 || Math.abs(value) >= 0.01 ? value.toFixed(2) : value.toPrecision(2));

/** A shape for an SVG drawing. */
function shape(drawing, name, kind, points) {
  const made = document.createElementNS(drawing.namespaceURI, name);
  made.setAttribute("class", kind);
  made.setAttribute("points", points.map((point) => point.map((n) => n.toFixed(2)).join(",")).join(" "));
  return made;
}

class Viewer {
  constructor(root) {
    this.root = root;
    this.facts = JSON.parse(root.dataset.viewer);
    this.pictures = new Map();
    this.at = 0;
    this.playing = 0;
    this.wanted = 0;
    this.kind = this.facts.kinds.includes("overlay") ? "overlay" : this.facts.kinds[0];
    this.stage = root.querySelector(".frame");
    this.slider = root.querySelector("input[type=range]");
    this.head = root.querySelector(".head");
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.measure = Object.keys(this.facts.measures)[0];
    root.addEventListener("click", (event) => this.#click(event));
    root.querySelector("[data-do=measure]")?.addEventListener("change", (event) => this.#draw(event.target.value));
    root.querySelector(".plot").addEventListener("pointerdown", (event) => this.#drag(event));
    document.addEventListener("keydown", (event) => this.#key(event));
    addEventListener("hashchange", () => this.go(Math.max(this.#asked(), 0)));
    this.#choose(this.kind);
    this.go(Math.max(this.#asked(), 0));
  }

  /** The place of the frame that the address names, as `#frame=1012`; -1 when it names none of these. */
  #asked() {
    return this.facts.frames.indexOf(Number(/^#frame=(-?\d+)$/.exec(location.hash)?.[1] ?? NaN));
  }

  /** Show the frame at a place in the list. */
  async go(at) {
    this.at = Math.min(Math.max(at, 0), this.facts.frames.length - 1);
    this.slider.value = this.at;
    this.slider.setAttribute("aria-valuetext", `frame ${this.facts.frames[this.at]}`);
    const x = this.facts.frames.length > 1 ? `${(100 * this.at) / (this.facts.frames.length - 1)}%` : "50%";
    this.head.setAttribute("x1", x);
    this.head.setAttribute("x2", x);
    const turn = ++this.wanted;
    const [frame, kind] = [this.facts.frames[this.at], this.kind];
    try {
      const picture = await this.#picture(frame, kind);
      if (turn !== this.wanted) return;
      this.stage.replaceChildren(picture);
      this.stage.classList.remove("missing");
    } catch {
      if (turn !== this.wanted) return;
      const note = document.createElement("p");
      note.className = "nothing";
      note.textContent = `There is no ${kind} picture of frame ${frame}.`;
      this.stage.replaceChildren(note);
      this.stage.classList.add("missing");
    }
    this.#label(frame, kind);
    for (let i = 1; i <= AHEAD && turn === this.wanted; i++) {
      for (const place of [this.at + i, this.at - (i <= 3 ? i : AHEAD + 1)]) {
        const near = this.facts.frames[place];
        if (near !== undefined) await this.#picture(near, kind).catch(() => {});
      }
    }
  }

  #label(frame, kind) {
    this.root.dataset.frame = frame;
    this.root.dataset.kind = kind;
    this.root.querySelector("[data-shown-frame]").textContent = frame;
    const drawn = this.facts.measures[this.measure];
    const value = drawn?.values[frame];
    const key = this.facts.keys.includes(frame) ? "keyframe" : "";
    const said = value === undefined ? "" : `${drawn.label.toLowerCase()} ${short(value)}`;
    this.root.querySelector("[data-shown-measure]").textContent = [said, key].filter(Boolean).join(" · ");
  }

  /** Draw another measure over the slider. */
  #draw(measure) {
    this.measure = measure;
    const { values, top } = this.facts.measures[measure];
    const last = Math.max(this.facts.frames.length - 1, 1);
    const stretches = [[]];
    this.facts.frames.forEach((frame, place) => {
      const value = values[frame];
      if (value !== undefined) stretches.at(-1).push([(1000 * place) / last, 100 - 100 * Math.min(Math.max(value / top, 0), 1)]);
      else if (stretches.at(-1).length) stretches.push([]);
    });
    const drawing = this.root.querySelector("[data-curve]");
    const drawn = stretches.filter((points) => points.length).flatMap((points) => [
      shape(drawing, "polygon", "area", [[points[0][0], 100], ...points, [points.at(-1)[0], 100]]),
      shape(drawing, "polyline", "curve", points),
    ]);
    drawing.replaceChildren(...drawn);
    for (const button of this.root.querySelectorAll("[data-worst]")) button.hidden = button.dataset.worst !== measure;
    const worst = this.root.querySelector(`[data-worst="${measure}"]`);
    const { label } = this.facts.measures[measure];
    this.root.querySelector(".plot").setAttribute("aria-label", `${label} per frame, ${worst.textContent}`);
    this.#label(this.facts.frames[this.at], this.kind);
  }

  #picture(frame, kind) {
    const address = `/v1/versions/${this.facts.version}/proxy/${kind}/${frame}.jpg`;
    let known = this.pictures.get(address);
    if (!known) {
      const picture = new Image();
      picture.alt = `${kind} of frame ${frame}`;
      picture.src = address;
      known = picture.decode().then(() => picture);
      known.catch(() => this.pictures.delete(address));
      this.pictures.set(address, known);
      if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    }
    return known;
  }

  #choose(kind) {
    if (!this.facts.kinds.includes(kind)) return;
    this.kind = kind;
    for (const button of this.root.querySelectorAll("[data-kind]")) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    }
  }

  /** Show a kind; asked for again, go back to the one before. */
  #toggle(kind) {
    const back = this.before && this.before !== kind ? this.before : "beauty";
    const to = this.kind === kind ? back : kind;
    this.before = this.kind;
    this.#choose(to);
    this.go(this.at);
  }

  #play(on) {
    clearTimeout(this.playing);
    this.playing = 0;
    const button = this.root.querySelector("[data-do=play]");
    button.setAttribute("aria-pressed", String(on));
    button.setAttribute("aria-label", on ? "Stop" : "Play");
    if (!on) return;
    const step = async () => {
      const started = performance.now();
      await this.#picture(this.facts.frames[(this.at + 1) % this.facts.frames.length], this.kind).catch(() => {});
      if (!this.playing) return;
      this.go((this.at + 1) % this.facts.frames.length);
      this.playing = setTimeout(step, Math.max(0, 1000 / this.facts.rate - (performance.now() - started)));
    };
    this.playing = setTimeout(step, 0);
  }

  #full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen?.();
  }

  #click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    if (event.detail > 0) button.blur(); // clicked, not pressed by key: Space goes on to play, not to click again
    const { kind, do: act, go } = button.dataset;
    if (kind) {
      this.before = this.kind;
      this.#choose(kind);
      this.go(this.at);
    } else if (go !== undefined) this.go(this.facts.frames.indexOf(Number(go)));
    else if (act === "back" || act === "on") this.go(this.at + (act === "on" ? 1 : -1));
    else if (act === "play") this.#play(!this.playing);
    else if (act === "full") this.#full();
  }

  #drag(event) {
    const plot = event.currentTarget;
    event.preventDefault();
    const to = (moved) => {
      const box = plot.getBoundingClientRect();
      this.go(Math.round(((moved.clientX - box.left) / box.width) * (this.facts.frames.length - 1)));
    };
    plot.setPointerCapture(event.pointerId);
    const end = () => {
      plot.removeEventListener("pointermove", to);
      plot.removeEventListener("pointerup", end);
      plot.removeEventListener("pointercancel", end);
    };
    plot.addEventListener("pointermove", to);
    plot.addEventListener("pointerup", end);
    plot.addEventListener("pointercancel", end);
    to(event);
  }

  #key(event) {
    if (busy(event)) return;
    const onButton = event.target instanceof HTMLButtonElement;
    const far = event.shiftKey ? 10 : 1;
    const kinds = { m: "matte", o: "overlay", b: "beauty" };
    if (event.key === "ArrowLeft") this.go(this.at - far);
    else if (event.key === "ArrowRight") this.go(this.at + far);
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go(this.facts.frames.length - 1);
    else if (event.key === " " && !onButton) this.#play(!this.playing);
    else if (event.key === "f") this.#full();
    else if (event.key in kinds) this.#toggle(kinds[event.key]);
    else return;
    event.preventDefault();
  }
}
