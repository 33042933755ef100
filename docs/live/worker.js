// Python, in a worker of its own: it loads Pyodide and the library, and runs programs. Everything lies beside this file.
//
// It is sent {run: {name, source}} and {cancel: name}, and sends {ready: true}, {broken: message} and
// {name, event: {kind, at, task, lock, ...}}; see live.py for the events.
import { loadPyodide } from "./pyodide/pyodide.mjs";

async function start() {
  const [python, library, live] = await Promise.all([
    loadPyodide(),
    fetched("library.zip").then((response) => response.arrayBuffer()),
    fetched("live.py").then((response) => response.text()),
  ]);
  python.unpackArchive(library, "zip", { extractDir: "/library" });
  python.FS.writeFile("/library/live.py", live);
  python.runPython("import sys; sys.path.insert(0, '/library')");
  const module = python.pyimport("live");
  module.settle_in();
  return module;
}

async function fetched(file) {
  const response = await fetch(new URL(file, import.meta.url));
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return response;
}

const started = start();
started.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ broken: String(error) }),
);

addEventListener("message", async ({ data: { run, cancel } }) => {
  const live = await started;
  if (cancel) return live.cancel(cancel);
  const tell = (event) => postMessage({ name: run.name, event: event.toJs({ dict_converter: Object.fromEntries }) });
  live.start(run.source, run.name, tell);
});
