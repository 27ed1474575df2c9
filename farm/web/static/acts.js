// Acts that are asked twice: a dialog says what will happen, and shows what the dispatcher has against it in its place.

import { send } from "./page.js";

/** Bring a `dialog.act` to life. `body()` gives what is sent, or null while it isn't complete; `done(answer)` is called after. */
export function dialogAct(dialog, { body, done, path = () => dialog.dataset.path }) {
  const button = dialog.querySelector("[data-send]");
  const refusal = dialog.querySelector(".refusal");
  let sending = false;

  async function act() {
    const what = body();
    if (sending || what === null) return;
    sending = true;
    button.disabled = true;
    const { ok, answer } = await send(path(), what);
    sending = false;
    button.disabled = false;
    if (ok) {
      dialog.close("done");
      done(answer);
      return;
    }
    refusal.querySelector("b").textContent = answer.message;
    const lines = (answer.faults ?? []).map((fault) => [`${fault.where}: ${fault.message}`, fault.hint].filter(Boolean).join(" · "));
    refusal.querySelector("span").textContent = answer.hint || (lines.length > 1 ? lines.join("\n") : (answer.faults?.[0]?.hint ?? ""));
    refusal.hidden = false;
    dialog.classList.add("refused");
  }

  button.addEventListener("click", act);
  return () => {
    refusal.hidden = true;
    dialog.classList.remove("refused");
    if (!dialog.open) dialog.showModal();
  };
}
