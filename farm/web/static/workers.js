// The table of workers, live.

import { follow } from "./live.js";

const readSoon = follow({ events: "/v1/events", part: () => "/workers?part=true", least: 1000 });
// A worker that falls silent causes no event; only looking again shows it.
setInterval(readSoon, 5000);
