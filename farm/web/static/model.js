// One model: kept in step, and acted on through dialogs.

import { dialogAct } from "./acts.js";
import { follow } from "./live.js";
import { busy, post, toast } from "./page.js";

const $ = (id) => document.getElementById(id);
const { model, task } = $("model").dataset;
const readSoon = follow({ events: "/v1/events", part: () => `/models/${model}?part=true` });

function said(words) {
  return () => {
    toast(words);
    readSoon();
  };
}

const opens = {
  promote: dialogAct($("promote"), {
    body: () => ({ override: $("override").value.trim() }),
    done: said("Promoted."),
  }),
  rollback: dialogAct($("rollback"), { body: () => ({ task }), done: said("Rolled back.") }),
  retire: dialogAct($("retire"), { body: () => ({}), done: said("Retired.") }),
  score: dialogAct($("score"), { body: () => ({}), done: (answer) => location.assign(`/jobs/${answer.job}`) }),
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.opens) opens[button.dataset.opens]();
  if (button.id === "take-up" && (await post(`/v1/models/${model}/retire`, { undo: true }))) said("It is a candidate again.")();
});

$("override").addEventListener("input", () => {
  const own = $("override").value.trim() !== "";
  $("promote").querySelector("[data-send]").textContent = own ? "Promote all the same" : "Promote";
});

document.addEventListener("keydown", (event) => {
  if (busy(event) || event.shiftKey) return;
  const name = { p: "promote", s: "score" }[event.key];
  if (!name || document.querySelector(`[data-opens=${name}]`)?.disabled) return;
  event.preventDefault();
  opens[name]();
});
