// What work has cost: read anew while somebody looks, by period.

import { follow } from "./live.js";
import { busy } from "./page.js";

function part() {
  const address = new URL(location.href);
  address.searchParams.set("part", "true");
  return address.pathname + address.search;
}

// Costs grow with every second of work: often enough is every few seconds.
const readSoon = follow({ events: "/v1/events", part, least: 4000 });

function go(link) {
  history.pushState(null, "", link.href);
  readSoon();
}

document.addEventListener("click", (event) => {
  const chip = event.target.closest("a.chip");
  if (!chip || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(chip);
});
document.addEventListener("keydown", (event) => {
  if (busy(event)) return;
  const link = document.querySelectorAll("#chips a")[["1", "2", "3", "4"].indexOf(event.key)];
  if (!link) return;
  event.preventDefault();
  go(link);
});
addEventListener("popstate", readSoon);
