// What somebody thinks of a version: picked, rated. `.` picks the one that is looked at; Shift with 1 to 5 rates it.

import { busy, post, toast } from "./page.js";

/** Listen to pick buttons, stars and keys. `at()` names the version that keys are for; `said()` is called after each word. */
export function judge({ at, said }) {
  async function say(version, body, words) {
    if (await post(`/v1/versions/${version}/reviews`, body)) {
      toast(words);
      said();
    }
  }

  function pick(version) {
    const on = document.querySelector(`[data-pick="${CSS.escape(version)}"]`)?.getAttribute("aria-pressed") === "true";
    say(version, { kind: "pick", value: on ? 0 : 1 }, on ? "No longer picked." : "Picked.");
  }

  function rate(version, value) {
    say(version, { kind: "rate", value }, value ? `Rated ${value} of 5.` : "The rating is taken back.");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pick], [data-rate]");
    if (!button) return;
    if (button.dataset.pick) pick(button.dataset.pick);
    else rate(button.dataset.version, button.dataset.rate === button.dataset.mine ? 0 : Number(button.dataset.rate));
  });
  document.addEventListener("keydown", (event) => {
    const version = at();
    if (!version || busy(event)) return;
    const digit = /^Digit([0-5])$/.exec(event.code)?.[1];
    if (event.key === ".") pick(version);
    else if (event.shiftKey && digit) rate(version, Number(digit));
    else return;
    event.preventDefault();
  });
}
