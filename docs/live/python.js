// The page's side of the worker: starts it, gives it programs, and ends it when a program does not end by itself.
const PATIENCE = 2000; // milliseconds that a program has to end after it was cancelled

export class Python {
  #worker;
  #runs = new Map(); // who is told of a run's events, and how to end the wait for it, by its name
  #state;

  // `state` is told "loading", "ready" or "broken", and in the last case why.
  constructor(state) {
    this.#state = state;
    this.#start();
  }

  get busy() {
    return this.#runs.size > 0;
  }

  #start() {
    this.#state("loading");
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#take(data);
    this.#worker.onerror = ({ message }) => this.#state("broken", message);
  }

  #take({ ready, broken, name, event }) {
    if (ready) this.#state("ready");
    if (broken) this.#state("broken", broken);
    const run = this.#runs.get(name);
    if (!run) return;
    run.heard(event);
    if (["ended", "failed", "stopped"].includes(event.kind)) this.#end(name, event.kind);
  }

  #end(name, how) {
    this.#runs.get(name)?.end(how);
    this.#runs.delete(name);
  }

  // Runs a program. `heard` is given its events. Resolves to how it ended.
  run(name, source, heard) {
    return new Promise((end) => {
      this.#runs.set(name, { heard, end });
      this.#worker.postMessage({ run: { name, source } });
    });
  }

  // Cancels programs, whose events are not heard any more. If one does not end, neither does Python: a new one is started.
  stop(...names) {
    const stopping = names.filter((name) => this.#runs.has(name)).map((name) => [name, this.#runs.get(name)]);
    for (const [name, run] of stopping) {
      run.heard = () => {};
      this.#worker.postMessage({ cancel: name });
    }
    setTimeout(() => {
      if (!stopping.some(([name, run]) => this.#runs.get(name) === run)) return;
      this.#worker.terminate();
      for (const name of this.#runs.keys()) this.#end(name, "stopped");
      this.#start();
    }, PATIENCE);
  }
}
