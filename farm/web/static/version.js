// A version on its own page: looked at, judged, recalled, replayed.

import { dialogAct } from "./acts.js";
import { follow } from "./live.js";
import { busy, post, toast } from "./page.js";
import { judge } from "./taste.js";
import { findViewers } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const { version, maySubmit } = $("version").dataset;
const review = `/v1/versions/${version}/reviews`;

findViewers();
const readSoon = follow({ events: "/v1/events", part: () => `/versions/${version}?part=true`, least: 500 });
judge({ said: readSoon, at: () => document.querySelector("#taste:not([hidden]) [data-pick]")?.dataset.pick });

async function note() {
  const text = $("note-text").value.trim();
  if (!text || !(await post(review, { kind: "note", text }))) return;
  $("note-text").value = "";
  readSoon();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "approve") {
    const value = Number(button.dataset.value);
    if (await post(review, { kind: "approve", value })) {
      toast(value ? "Approved: models may learn from it." : "No longer approved.");
      readSoon();
    }
  } else if (button.id === "note-send") note();
  else if (button.id === "recall-open") openRecall();
  else if (button.id === "replay-now") {
    button.disabled = true;
    const reply = await post(`/v1/versions/${version}/replay`, {});
    button.disabled = false;
    if (reply) location.assign(`/jobs/${reply.job}`);
  }
});
$("note-text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) note();
});

// Recall: only what was changed is sent, all else is as it was

const fields = [...document.querySelectorAll("#recall [data-parameter]")];

function valueOf(field) {
  if (field.dataset.kind === "bool") return String(field.checked);
  return field.value.trim();
}

function changes() {
  const found = {};
  for (const field of fields) {
    const text = valueOf(field);
    if (text === field.dataset.before) continue;
    if (field.dataset.kind === "bool") found[field.dataset.parameter] = field.checked;
    else if (field.dataset.kind === "number") found[field.dataset.parameter] = text === "" ? null : Number(text);
    else found[field.dataset.parameter] = text;
  }
  return found;
}

const openRecall = dialogAct($("recall"), {
  body: () => {
    const wrong = fields.find((field) => !field.checkValidity());
    if (!wrong) return { parameters: changes() };
    wrong.reportValidity();
    return null;
  },
  done: (answer) => location.assign(`/jobs/${answer.job}`),
});
$("recall").addEventListener("input", () => {
  const names = Object.keys(changes());
  $("recall-changed").textContent = names.length ? `Changed: ${names.join(", ")}` : "Nothing is changed: the same again.";
  for (const field of fields) field.closest(".field").classList.toggle("changed", valueOf(field) !== field.dataset.before);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "R" || !event.shiftKey || maySubmit !== "yes" || busy(event)) return;
  event.preventDefault();
  openRecall();
});
