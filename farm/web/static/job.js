// One job: its strip, its acts, its pictures, its log.

import { follow } from "./live.js";
import { Log } from "./log.js";
import { post, toast } from "./page.js";
import { Strip } from "./strip.js";
import { judge } from "./taste.js";
import { findViewers } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const { job, take, mayAct } = $("job").dataset;
const may = mayAct === "yes";
const FINAL = ["succeeded", "cancelled"];

let selection = { frames: [], text: "", cells: [] };
let opened = /^#log-(\d+-\d+)$/.exec(location.hash)?.[1] ?? "";
let pinned = null;

// A training does no frames: its page has no strip.
const strip = $("strip") && new Strip($("strip"), { pointed: tell, selected: choose });
const log = new Log(job, $("log"), $("log-head"), { follow: $("follow"), onlyErrors: $("only-errors") });

const readSoon = follow({
  events: `/v1/events?job=${job}`,
  part: () => `/jobs/${job}?take=${take}&part=true`,
  changed: draw,
  heard: (kind, data) => {
    if (data.note && $("note")) $("note").textContent = data.note;
  },
});

function draw() {
  strip?.update(JSON.parse($("job-head").dataset.strip));
  findViewers();
  drawAttempts();
  if (pinned !== null) showPreview(pinned);
}

// The strip

function tell(cell) {
  const line = $("readout");
  if (!cell) {
    line.textContent = "Point at a frame, or drag over several.";
    return;
  }
  const { chunk } = cell;
  const sure = cell.confidence === undefined ? "" : `confidence ${cell.confidence.toFixed(2)}`;
  const where = chunk.worker && cell.state !== "waiting" && cell.state !== "depend" ? `on ${chunk.worker}` : "";
  const tries = chunk.attempt > 1 ? `attempt ${chunk.attempt}` : "";
  const parts = [cell.state, where, tries, sure, `chunk ${chunk.frames}`, chunk.reason].filter(Boolean);
  const frame = document.createElement("b");
  frame.textContent = cell.frame;
  line.replaceChildren(frame, ` ${parts.join(" · ")}`);
}

function choose(chosen) {
  selection = chosen;
  const some = chosen.frames.length > 0;
  const chunks = new Map(chosen.cells.map((cell) => [cell.chunk.id, cell.chunk]));
  const inChunks = [...chunks.values()].map((chunk) => chunk.frames).join(", ");
  const whole = [...chunks.keys()].reduce((sum, id) => sum + strip.cells.filter((cell) => cell.chunk.id === id).length, 0);
  const wider = some && whole > chosen.frames.length ? ` (work goes by chunks: ${inChunks.length > 40 ? `${chunks.size} chunks` : inChunks})` : "";
  $("chosen").textContent = some ? `${chosen.text}: ${chosen.frames.length} frame${chosen.frames.length === 1 ? "" : "s"}${wider}` : "";
  $("chosen").title = $("chosen").textContent;
  const open = may && some && !FINAL.includes($("job-head").dataset.state);
  $("retry-frames").disabled = !open || chosen.cells.every((cell) => cell.state === "depend");
  $("skip-frames").disabled = !open || chosen.cells.some((cell) => cell.state === "done" || cell.state === "skipped");
  $("clear-frames").disabled = !some;
}

$("clear-frames")?.addEventListener("click", () => strip.clear());
for (const name of ["retry", "skip"]) {
  $(`${name}-frames`)?.addEventListener("click", async () => {
    const said = selection.text;
    if (await post(`/v1/jobs/${job}/${name}`, { frames: said })) {
      toast(name === "retry" ? `${said} is done again.` : `${said} is left out.`);
      strip.clear();
      readSoon();
    }
  });
}

// Acts on the whole job

const SAID = { pause: "Paused.", resume: "Resumed.", retry: "What failed is tried again.", cancel: "Cancelled." };

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { act, step, frame, attempt, piece, pieceAct } = button.dataset;
  if (act) {
    if (act === "cancel" && !(await sure())) return;
    if (await post(`/v1/jobs/${job}/${act}`, {})) {
      toast(SAID[act]);
      readSoon();
    }
  } else if (piece) {
    if (await post(`/v1/jobs/${job}/${pieceAct}`, { chunk: Number(piece) })) readSoon();
  } else if (step) setPriority(Number($("priority").value) + Number(step));
  else if (attempt) open(`${button.dataset.chunk}-${attempt}`);
  else if (frame && button.closest("#thumbs")) {
    pinned = pinned === frame ? null : frame;
    if (pinned === null) readSoon();
    else showPreview(pinned);
  }
});
document.addEventListener("change", (event) => {
  if (event.target.id === "priority") setPriority(Number(event.target.value));
});

async function setPriority(value) {
  const priority = Math.min(Math.max(Math.round(value) || 0, 0), 100);
  $("priority").value = priority;
  if (await post(`/v1/jobs/${job}/priority`, { priority })) readSoon();
}

function sure() {
  const dialog = $("sure");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// Early pictures

function showPreview(frame) {
  const thumb = $(`thumb-${frame}`);
  const large = $("preview");
  if (!thumb || !large) {
    pinned = null;
    return;
  }
  large.src = thumb.querySelector("img").src;
  large.alt = `Early picture of frame ${frame}`;
  $("preview-frame").textContent = frame;
  for (const each of $("thumbs").children) each.classList.toggle("pinned", each === thumb);
}

// Attempts and their log

function open(place) {
  opened = place;
  history.replaceState(null, "", `#log-${place}`);
  drawAttempts();
}

function drawAttempts() {
  const list = $("job-attempts");
  const chosen = (opened && $(`attempt-${opened}`)) || $(`attempt-${list.dataset.shown}`);
  for (const each of list.querySelectorAll(".attempt")) {
    each.classList.toggle("on", each === chosen);
    each.setAttribute("aria-pressed", String(each === chosen));
  }
  if (!chosen) return;
  const title = `${chosen.querySelector(".what").textContent.trim()} · attempt ${chosen.dataset.attempt} on ${chosen.querySelector(".where").textContent}`;
  log.show({ chunk: Number(chosen.dataset.chunk), attempt: Number(chosen.dataset.attempt), live: chosen.dataset.live === "yes", title });
}

judge({ said: readSoon, at: () => document.querySelector(".candidates .here [data-pick]")?.dataset.pick });
draw();
