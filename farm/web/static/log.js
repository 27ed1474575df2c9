// The log of one attempt, with its tail as it grows. Lines that tell of trouble are lit.

const BAD = /\b(ERROR|CRITICAL|FATAL|FAILED|Traceback|[Kk]illed|[Ss]egmentation fault|[Oo]ut of memory)\b|\b[A-Z]\w*(Error|Exception)\b/;
const WARN = /\bWARN(ING)?\b/;
const MOST_LINES = 5000;
const TAIL_MS = 1000;

/** Shows into `box`, with what is shown in `head`. */
export class Log {
  constructor(job, box, head, { follow, onlyErrors }) {
    this.job = job;
    this.box = box;
    this.head = head;
    this.follow = follow;
    this.place = "";
    this.lines = 0;
    this.reading = false;
    onlyErrors.addEventListener("change", () => box.classList.toggle("only-errors", onlyErrors.checked));
    follow.addEventListener("change", () => this.#toEnd());
    box.addEventListener("wheel", (event) => {
      if (event.deltaY < 0) follow.checked = false;
    }, { passive: true });
    setInterval(() => {
      if (this.live && !document.hidden) this.read();
    }, TAIL_MS);
  }

  /** Show the log of an attempt: `{chunk, attempt, live, title}`. */
  show({ chunk, attempt, live, title }) {
    const place = `${chunk}-${attempt}`;
    const ended = this.live && !live;
    this.live = live;
    this.head.textContent = title;
    if (place !== this.place) {
      this.place = place;
      this.chunk = chunk;
      this.attempt = attempt;
      this.lines = 0;
      this.box.replaceChildren();
      this.read();
    } else if (live || ended) this.read();
  }

  async read() {
    if (!this.place || this.reading) {
      this.again = this.reading;
      return;
    }
    this.reading = true;
    const place = this.place;
    try {
      const address = `/v1/jobs/${this.job}/log?chunk=${this.chunk}&attempt=${this.attempt}&after=${this.lines}`;
      const reply = await fetch(address);
      const [entry] = reply.ok ? await reply.json() : [];
      if (entry && place === this.place) this.#add(entry.lines);
    } catch {
      // the stream says when the dispatcher is back
    }
    this.reading = false;
    if (this.again || place !== this.place) {
      this.again = false;
      this.read();
    }
  }

  #add(lines) {
    if (!lines.length) return;
    this.lines += lines.length;
    const some = document.createDocumentFragment();
    for (const line of lines) {
      const row = document.createElement("p");
      const time = document.createElement("time");
      time.textContent = new Date(line.t * 1000).toLocaleTimeString([], { hour12: false });
      const text = document.createElement("span");
      text.textContent = line.text;
      if (BAD.test(line.text)) row.className = "bad";
      else if (WARN.test(line.text)) row.className = "warn";
      row.append(time, text);
      some.append(row);
    }
    this.box.append(some);
    while (this.box.childElementCount > MOST_LINES) this.box.firstElementChild.remove();
    this.#toEnd();
  }

  #toEnd() {
    if (this.follow.checked) this.box.scrollTop = this.box.scrollHeight;
  }
}
