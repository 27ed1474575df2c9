// The table of models: live, filtered by chips that stay in the address, walked with j and k.

import { follow } from "./live.js";
import { walkRows } from "./rows.js";

function part() {
  const address = new URL(location.href);
  address.searchParams.set("part", "true");
  return address.pathname + address.search;
}

let mark = () => {};
const readSoon = follow({ events: "/v1/events", part, changed: () => mark(), least: 500 });
mark = walkRows(() => [...document.querySelectorAll("#models-table tr.row")].filter((row) => row.offsetParent !== null));

document.addEventListener("click", (event) => {
  const chip = event.target.closest("a.chip");
  if (chip && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    history.pushState(null, "", chip.href);
    readSoon();
  }
});
addEventListener("popstate", readSoon);
