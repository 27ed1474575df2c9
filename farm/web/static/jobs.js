// The table of jobs: live, searched as you type, walked with j and k.

import { follow } from "./live.js";
import { busy } from "./page.js";

const search = document.getElementById("search");
let chosen = "";

function part() {
  const address = new URL(location.href);
  address.searchParams.set("part", "true");
  return address.pathname + address.search;
}

const readSoon = follow({ events: "/v1/events", part, changed: mark, least: 250 });

function rows() {
  return [...document.querySelectorAll("#rows > tr")];
}

function mark() {
  for (const row of rows()) row.classList.toggle("chosen", row.id === chosen);
}

function move(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.id === chosen);
  const next = all[Math.min(Math.max(at < 0 ? 0 : at + by, 0), all.length - 1)];
  chosen = next.id;
  mark();
  next.querySelector("a").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function go(address) {
  history.replaceState(null, "", address);
  readSoon();
}

search.addEventListener("input", () => {
  const address = new URL(location.href);
  address.searchParams.delete("before");
  if (search.value.trim()) address.searchParams.set("q", search.value.trim());
  else address.searchParams.delete("q");
  go(address);
});
search.form.addEventListener("submit", (event) => event.preventDefault());
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    search.blur();
    chosen = "";
    move(0);
  }
  if (event.key === "Escape") search.blur();
});

document.addEventListener("keydown", (event) => {
  if (busy(event)) return;
  if (event.key === "/") {
    search.focus();
    search.select();
  } else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "Enter" && chosen && document.activeElement === document.body) {
    document.querySelector(`#${CSS.escape(chosen)} a`)?.click();
  } else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const chip = event.target.closest("a.chip");
  if (chip && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    history.pushState(null, "", chip.href);
    readSoon();
    return;
  }
  const row = event.target.closest("#rows > tr");
  if (row && !event.target.closest("a") && !getSelection().toString()) row.querySelector("a").click();
});
addEventListener("popstate", () => {
  search.value = new URL(location.href).searchParams.get("q") ?? "";
  readSoon();
});
