// One run, as it happens: the line of each lock, a lane of time for each task, the events in words, what was printed.
import { circle } from "./circle.js";
import { make } from "./make.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const ENDED = { ended: "", failed: "The program failed. ", stopped: "Stopped. " };

export class Picture {
  #title;
  #locks = new Map(); // by name: the lists of its three places
  #lanes = new Map(); // by a task's name: its track, and the bar that grows there for each lock
  #chips = new Map(); // by task and lock
  #started; // on the page's clock
  #length = 1; // milliseconds that the lanes show
  #last; // the last event of a lock
  #frozen = false;
  #ended = false;
  #order = [];
  #cancelled = [];
  #deadlocks = 0;

  constructor(title) {
    this.#title = title;
    this.lines = make("div", { className: "locks" });
    this.lanes = make("div", {
      className: "lanes",
      role: "img",
      ariaLabel: "Lanes of time: the events below say the same",
    });
    this.key = make("p", { className: "hint key", ariaHidden: "true" }, [
      make("span", { className: "bar waits" }),
      " waits ",
      make("span", { className: "bar holds" }),
      " holds ",
    ]);
    this.circles = make("div");
    this.output = make("pre", { tabIndex: 0, ariaLabel: `What ${title} printed` });
    this.printed = make("div", { hidden: true }, [make("h4", { textContent: "Output" }), this.output]);
    this.events = make("ol", { className: "events" });
    this.note = make("p", { className: "note" });
    this.element = make("section", { className: "picture", ariaLabel: title }, [
      make("h3", { textContent: title }),
      ...[this.lines, this.circles, this.note, this.lanes, this.key, this.printed],
      make("h4", { textContent: "In order" }),
      this.events,
    ]);
  }

  hear(event) {
    if (this.#frozen) return;
    this.#begin(event.at);
    this.#length = Math.max(this.#length, event.at);
    if (event.kind === "says") this.#print(event.text);
    else if (event.lock) this.#act(event);
  }

  // Stands still and says why, whatever is heard after.
  freeze(why) {
    this.note.textContent = why;
    this.#frozen = true;
  }

  end(how) {
    this.#ended = true;
    this.#draw();
    const took = `It took ${(this.#length / 1000).toFixed(1)} s.`;
    const order =
      this.#locks.size === 1 && this.#order.length ? `Served in this order: ${this.#order.join(", ")}. ` : "";
    const cancelled = this.#cancelled.length ? `Cancelled while waiting: ${this.#cancelled.join(", ")}. ` : "";
    const deadlock = this.#deadlocks ? "A deadlock was found and told by DeadlockError. " : "";
    this.summary = `${this.#frozen ? `${this.note.textContent} ` : ENDED[how]}${deadlock}${order}${cancelled}${took}`;
    if (!this.#frozen) this.note.textContent = this.summary;
  }

  #begin(at) {
    if (this.#started !== undefined) return;
    this.#started = performance.now() - at;
    const grow = () => {
      if (this.#ended || this.#frozen) return;
      this.#length = Math.max(this.#length, performance.now() - this.#started);
      this.#draw();
      requestAnimationFrame(grow);
    };
    requestAnimationFrame(grow);
  }

  #act(event) {
    const { kind, at, task, lock, cycle } = event;
    const places = this.#placesOf(lock);
    const lane = this.#laneOf(task);
    const waited = lane.waits?.get(lock);
    const place = { waits: "waits", holds: "holds", cancelled: "left", deadlock: "left", leaves: "left" }[kind];
    this.#move(task, lock, place && places[place], kind);
    for (const bars of [lane.waits, lane.holds]) this.#close(bars, lock, at);
    if (kind === "waits" || kind === "holds") this.#open(lane, kind, lock, at);
    if (kind === "holds" || kind === "passes") this.#order.push(task);
    if (kind === "cancelled") this.#cancelled.push(task);
    if (kind === "cancelled" || kind === "deadlock") this.#mark(lane, kind, at);
    if (kind === "deadlock") this.#deadlocks = this.circles.children.length + 1;
    if (cycle) this.circles.append(circle(cycle));
    // Nothing happened between: it did not have to wait.
    const atOnce =
      waited && kind !== "cancelled" && this.#last.task === task && this.#last.lock === lock && at - waited.from < 50;
    if (atOnce) waited.element.remove();
    this.#tell(event, waited, atOnce);
    this.#last = event;
  }

  #placesOf(lock) {
    if (!this.#locks.has(lock)) {
      const places = Object.fromEntries(["holds", "waits", "left"].map((name) => [name, make("ol")]));
      this.#locks.set(lock, places);
      const rows = Object.entries({ holds: "holds", waits: "waits", left: "left the line" }).flatMap(
        ([name, label]) => [
          make("dt", { className: name, textContent: label }),
          make("dd", { className: name }, [places[name]]),
        ],
      );
      this.lines.append(make("div", { className: "lock" }, [make("h4", { textContent: lock }), make("dl", {}, rows)]));
    }
    return this.#locks.get(lock);
  }

  #laneOf(task) {
    if (!this.#lanes.has(task)) {
      const track = make("div", { className: "track" });
      this.#lanes.set(task, { track, waits: new Map(), holds: new Map(), drawn: [] });
      this.lanes.append(make("span", { textContent: task }), track);
    }
    return this.#lanes.get(task);
  }

  // The task's chip goes to this list, or away, and is seen going.
  #move(task, lock, to, kind) {
    const key = JSON.stringify([task, lock]);
    const before = new Map([...this.#chips.values()].map((chip) => [chip, chip.getBoundingClientRect()]));
    const chip = this.#chips.get(key) ?? make("li", { className: "chip" });
    chip.textContent = kind === "cancelled" ? `${task} ✕` : kind === "deadlock" ? `${task}: DeadlockError` : task;
    if (to) {
      to.closest(".lock").classList.add(`ever-${kind}`);
      to.append(chip);
      this.#chips.set(key, chip);
    } else {
      chip.remove();
      this.#chips.delete(key);
    }
    if (calm.matches) return;
    for (const [moved, old] of before) {
      const now = moved.getBoundingClientRect();
      const [x, y] = [old.left - now.left, old.top - now.top];
      if (moved.isConnected && (x || y)) {
        moved.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], {
          duration: 200,
          easing: "ease",
        });
      }
    }
  }

  #open(lane, kind, lock, from) {
    const bar = { from, element: make("div", { className: `bar ${kind}`, textContent: kind === "holds" ? lock : "" }) };
    lane[kind].set(lock, bar);
    lane.drawn.push(bar);
    lane.track.append(bar.element);
  }

  #close(bars, lock, at) {
    const bar = bars.get(lock);
    if (bar) bar.to = at;
    bars.delete(lock);
  }

  #mark(lane, kind, at) {
    const element = make("div", { className: `mark ${kind}`, textContent: kind === "cancelled" ? "✕" : "⟳" });
    lane.drawn.push({ from: at, to: at, element });
    lane.track.append(element);
  }

  #draw() {
    const part = (time) => `${(100 * time) / this.#length}%`;
    for (const { drawn } of this.#lanes.values()) {
      for (const { from, to = this.#length, element } of drawn) {
        element.style.left = part(from);
        element.style.width = part(to - from);
      }
    }
  }

  #tell({ kind, at, task, lock, how }, waited, atOnce) {
    const name = ["read", "write"].includes(how) ? `${lock} (${how})` : lock;
    const after = waited && !atOnce ? ` after ${Math.round(waited.to - waited.from)} ms` : "";
    const words = {
      waits: `waits for ${name}`,
      holds: `holds ${name}${after}`,
      passes: `goes on${after}`,
      frees: `frees ${name}`,
      cancelled: `is cancelled while it waits for ${name}`,
      deadlock: `would close a circle by waiting for ${name}, and is told: DeadlockError`,
      leaves: `leaves the line of ${name}`,
    }[kind];
    if (atOnce) this.events.lastChild.remove(); // it is said of those only who have to wait
    const item = make("li", { className: kind, textContent: `${(at / 1000).toFixed(2)} s: ${task} ${words}` });
    this.events.append(item);
  }

  #print(text) {
    this.printed.hidden = false;
    this.output.textContent += text;
  }
}
