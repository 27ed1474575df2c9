// Keeps a page in step with the dispatcher: one event stream, and after any event the page's changing part is read anew,
// at most every 150 ms. A stream that comes back after a break starts with the whole state, so nothing can be missed.

import { swap } from "./morph.js";
import "./page.js";

const LEAST_MS = 150;
const KINDS = ["job", "chunk", "worker", "version", "model", "review", "preview", "resync"];
const RETRY_MS = 1500;

/** Follow `events`, an address of the stream. `part()` gives the address of the changing part, which is swapped in;
 *  `changed` is called after each swap; `heard(kind, data)` for each event. Returns a function that reads the part now. */
export function follow({ events, part, changed = () => {}, heard = () => {}, least = LEAST_MS }) {
  let timer = 0;
  let reading = false;
  let again = false;
  let readAt = 0;
  let took = 0;

  async function read() {
    timer = 0;
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    again = false;
    const started = performance.now();
    try {
      const address = part();
      const reply = await fetch(address, { headers: { Accept: "text/html" } });
      if (reply.status === 401) signedOut();
      else if (reply.ok) {
        const html = await reply.text();
        // The filter may have changed meanwhile: an answer to the old question isn't shown.
        if (address === part()) {
          swap(html);
          changed();
        } else again = true;
      }
    } catch {
      again = false; // the stream tells when the dispatcher is back, and then everything is read
    }
    reading = false;
    took = performance.now() - started;
    readAt = performance.now();
    if (again) soon();
  }

  function soon() {
    if (timer || document.hidden) {
      again = again || document.hidden;
      return;
    }
    // A part that takes long to read is read less often, so that many open pages don't weigh the dispatcher down.
    const wait = Math.max(0, readAt + Math.max(least, 3 * took) - performance.now());
    timer = setTimeout(read, wait);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) soon();
  });

  function open() {
    const stream = new EventSource(events);
    stream.addEventListener("open", () => {
      say("live");
      soon();
    });
    for (const kind of KINDS) {
      stream.addEventListener(kind, (event) => {
        heard(kind, JSON.parse(event.data));
        soon();
      });
    }
    stream.addEventListener("error", async () => {
      say("lost");
      if (stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      stream.close();
      const reply = await fetch("/v1/status").catch(() => null);
      if (reply?.status === 401) signedOut();
      else setTimeout(open, RETRY_MS);
    });
  }
  open();
  return soon;
}

function say(state) {
  const sign = document.getElementById("connection");
  sign.dataset.state = state;
  sign.lastElementChild.textContent = state === "live" ? "live" : "not live";
  document.getElementById("lost").hidden = state === "live";
}

function signedOut() {
  const lost = document.getElementById("lost");
  lost.textContent = "Your sign-in has ended. Run: plates open";
  lost.hidden = false;
}
