// The strip: one cell a frame. Point at one to read it; drag, or Shift with the arrows, to select a range.

import { rangeText } from "./frames.js";

const ONE_ROW = 72;
const BLOCK = 50;

/** Draws into `box`; `pointed(cell|null)` and `selected(frames, chunks)` are told what the person does. */
export class Strip {
  constructor(box, { pointed, selected }) {
    this.box = box;
    this.told = { pointed, selected };
    this.cells = [];
    this.shape = "";
    this.anchor = this.end = this.cursor = -1;
    this.dragging = false;
    this.marked = null;
    box.addEventListener("pointerdown", (event) => this.#down(event));
    box.addEventListener("pointermove", (event) => this.#moved(event));
    box.addEventListener("pointerup", () => this.#up());
    box.addEventListener("pointercancel", () => this.#up());
    box.addEventListener("pointerleave", () => {
      if (!this.dragging) this.#point(null);
    });
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("focus", () => {
      if (this.cursor < 0 && this.cells.length) this.#moveTo(0, false);
    });
  }

  /** Show `{runs, chunks, confidence}` of views.py. Cells stay the same elements as long as the frames do. */
  update({ runs, chunks, confidence }) {
    const cells = [];
    for (const [first, last, state, chunk] of runs) {
      for (let frame = first; frame <= last; frame++) {
        cells.push({ frame, state, chunk: chunks[chunk], place: chunk, confidence: confidence[frame] });
      }
    }
    cells.sort((a, b) => a.frame - b.frame);
    const shape = cells.map((cell) => `${cell.frame}.${cell.place}`).join();
    if (shape !== this.shape) {
      this.shape = shape;
      this.#build(cells);
    }
    cells.forEach((cell, i) => {
      const element = this.cells[i].element;
      const before = this.cells[i];
      if (before.state !== cell.state) {
        element.classList.remove(`s-${before.state}`);
        element.classList.add(`s-${cell.state}`);
        element.setAttribute("aria-label", `frame ${cell.frame}, ${cell.state}`);
      }
      this.cells[i] = { ...cell, element };
    });
    this.#point(this.marked === null ? null : this.marked);
    this.#tell();
  }

  /** Let go of the selection. */
  clear() {
    this.anchor = this.end = -1;
    this.#paint();
  }

  #build(cells) {
    this.anchor = this.end = this.cursor = -1;
    this.marked = null;
    this.box.replaceChildren();
    this.box.classList.toggle("many", cells.length > 400);
    const size = cells.length <= ONE_ROW ? Math.max(cells.length, 1) : BLOCK;
    this.box.classList.toggle("blocks", cells.length > ONE_ROW);
    this.cells = [];
    for (let start = 0; start < cells.length; start += size) {
      const some = cells.slice(start, start + size);
      const block = document.createElement("div");
      block.className = "block";
      const row = document.createElement("div");
      row.className = "cells";
      row.style.gridTemplateColumns = `repeat(${size}, minmax(0, 1fr))`;
      for (const cell of some) {
        const element = document.createElement("div");
        const edge = this.cells.length > 0 && this.cells.at(-1).place !== cell.place;
        element.id = `frame-${cell.frame}`;
        element.className = `cell${edge ? " edge" : ""}`;
        element.setAttribute("role", "option");
        element.setAttribute("aria-selected", "false");
        element.dataset.at = this.cells.length;
        this.cells.push({ ...cell, state: "", element });
        row.append(element);
      }
      const ruler = document.createElement("div");
      ruler.className = "ruler";
      ruler.setAttribute("aria-hidden", "true");
      ruler.style.gridTemplateColumns = row.style.gridTemplateColumns;
      some.forEach((cell, i) => {
        const last = i === some.length - 1;
        const room = Math.min(size, 72) / 10;
        if (i !== 0 && !last && cell.frame % 10 !== 0) return;
        if (i !== 0 && !last && (i < room || some.length - 1 - i < room)) return;
        if (last && i !== 0 && i < room) return;
        const mark = document.createElement("span");
        mark.textContent = cell.frame;
        mark.style.gridColumn = String(i + 1);
        if (last && i !== 0) mark.className = "last";
        ruler.append(mark);
      });
      block.append(row, ruler);
      this.box.append(block);
    }
  }

  #at(event) {
    const under = document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".cell");
    return under && this.box.contains(under) ? Number(under.dataset.at) : -1;
  }

  #down(event) {
    const at = this.#at(event);
    if (at < 0 || event.button > 0) return;
    event.preventDefault();
    this.box.focus({ preventScroll: true });
    this.box.setPointerCapture(event.pointerId);
    this.dragging = true;
    if (!event.shiftKey || this.anchor < 0) this.anchor = at;
    this.end = this.cursor = at;
    this.#paint();
    this.#point(at);
  }

  #moved(event) {
    const at = this.#at(event);
    if (at < 0) {
      if (!this.dragging) this.#point(null);
      return;
    }
    if (this.dragging && at !== this.end) {
      this.end = this.cursor = at;
      this.#paint();
    }
    this.#point(at);
  }

  #up() {
    this.dragging = false;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      const to = Math.min(Math.max(this.cursor + steps[event.key], 0), this.cells.length - 1);
      this.#moveTo(to, event.shiftKey);
    } else if (event.key === " ") {
      this.anchor = this.end = this.cursor;
      this.#paint();
    } else if (event.key === "Escape") this.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #moveTo(to, extend) {
    if (extend) {
      if (this.anchor < 0) this.anchor = this.cursor;
      this.end = to;
    }
    this.cursor = to;
    this.#paint();
    this.#point(to);
  }

  #paint() {
    const low = Math.min(this.anchor, this.end);
    const high = Math.max(this.anchor, this.end);
    this.cells.forEach(({ element }, i) => {
      const on = this.anchor >= 0 && i >= low && i <= high;
      if ((element.getAttribute("aria-selected") === "true") !== on) element.setAttribute("aria-selected", String(on));
      element.classList.toggle("cursor", i === this.cursor);
    });
    if (this.cursor >= 0) this.box.setAttribute("aria-activedescendant", this.cells[this.cursor].element.id);
    this.#tell();
  }

  #point(at) {
    this.marked = at;
    this.told.pointed(at === null ? null : this.cells[at]);
  }

  #tell() {
    const chosen = this.cells.filter(({ element }) => element.getAttribute("aria-selected") === "true");
    const frames = chosen.map((cell) => cell.frame);
    this.told.selected({ frames, text: rangeText(frames), cells: chosen });
  }
}
