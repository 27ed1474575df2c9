// What every page has: running ages, the list of keys, short messages, acts on the dispatcher.

const offset = Date.now() / 1000 - Number(document.body.dataset.now || 0) || 0;

/** Seconds since 1970 by the dispatcher's clock, near enough for ages. */
export function now() {
  return Date.now() / 1000 - (Number(document.body.dataset.now) ? offset : 0);
}

/** As `duration` of views.py. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-since], time[data-ago]")) {
    const { since, ago } = time.dataset;
    const text = duration(now() - Number(since ?? ago)) + (ago ? " ago" : "");
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(tick, 1000);

/** A short message in the corner; `hint` says what to do. */
export function toast(message, hint = "", kind = "note") {
  const box = document.createElement("div");
  box.className = `toast ${kind}`;
  const strong = document.createElement("b");
  strong.textContent = message;
  box.append(strong);
  if (hint) {
    const span = document.createElement("span");
    span.textContent = hint;
    box.append(span);
  }
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), kind === "bad" ? 9000 : 4000);
}

/** POST JSON to the dispatcher: `{ok, answer}`; what went wrong has a `message` and a `hint`. */
export async function send(path, body) {
  const headers = { "Content-Type": "application/json" };
  const csrf = document.querySelector('meta[name="csrf"]')?.content;
  if (csrf) headers["x-platewright-csrf"] = csrf;
  let reply;
  try {
    reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  } catch {
    const hint = "Nothing was changed. Try again when the page is live.";
    return { ok: false, answer: { message: "The dispatcher can't be reached.", hint } };
  }
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok && !answer.message) answer.message = `The dispatcher answered ${reply.status}.`;
  return { ok: reply.ok, answer };
}

/** POST JSON to the dispatcher. Says what went wrong and answers null, or answers the reply. */
export async function post(path, body) {
  const { ok, answer } = await send(path, body);
  if (ok) return answer;
  toast(answer.message, answer.hint || "", "bad");
  return null;
}

/** Whether a key press is meant for a field, a dialog or the browser rather than for the page. */
export function busy(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  if (document.querySelector("dialog[open]")) return true;
  const at = event.target;
  return at instanceof HTMLElement && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) && at.type !== "range" && at.type !== "checkbox";
}

const keys = document.getElementById("keys");
document.getElementById("keys-button").addEventListener("click", () => keys.showModal());
document.addEventListener("keydown", (event) => {
  if (event.key !== "?") return;
  if (keys.open) keys.close();
  else if (!busy(event)) keys.showModal();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    toast("Copied.");
  } catch {
    // Without https a browser keeps the clipboard closed: mark the text, so that Ctrl+C does it.
    getSelection().selectAllChildren(button.parentElement);
    toast("Marked. Press Ctrl+C.");
  }
});
