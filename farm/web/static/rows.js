// A table whose rows are walked with j and k and opened with Enter or a click.

import { busy } from "./page.js";

/** `rows()` gives the rows as they stand; each holds the link that it opens. Returns a function that marks the chosen row again. */
export function walkRows(rows) {
  let chosen = "";

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

  document.addEventListener("keydown", (event) => {
    if (busy(event)) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "Enter" && chosen && document.activeElement === document.body) {
      document.querySelector(`#${CSS.escape(chosen)} a`)?.click();
    } else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const row = event.target.closest("tr.row");
    if (row && rows().includes(row) && !event.target.closest("a, button") && !getSelection().toString()) row.querySelector("a").click();
  });
  return mark;
}
