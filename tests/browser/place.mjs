// Starts Pyodide on the page's main thread, or in a worker, and hands over to inside.py.
import { enter } from "/repo/tests/pyodide/enter.mjs";
import { loadPyodide } from "/bed/node_modules/pyodide/pyodide.mjs";

async function run(job, say) {
  if (job.driver === "await") delete WebAssembly.Suspending; // as in a browser without stack switching
  const py = await loadPyodide({ env: { HOME: "/home/pyodide", COLUMNS: job.columns } });
  for (const set of [py.setStdout, py.setStderr]) set.call(py, { write: writer(say) });
  const archive = await fetch("/bed/archive.zip");
  py.unpackArchive(await archive.arrayBuffer(), "zip", { extractDir: "/" });
  return await enter(py, { ...job, measured: false });
}

function writer(say) {
  const decoder = new TextDecoder();
  return (bytes) => {
    say(decoder.decode(bytes, { stream: true }));
    return bytes.length;
  };
}

function runInWorker(job, say) {
  const worker = new Worker(import.meta.url, { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.onmessage = ({ data: { said, code, uncaught } }) => {
      if (said !== undefined) say(said);
      else if (code !== undefined) resolve(code);
      else reject(new Error(`uncaught, outside of every test: ${uncaught}`));
    };
    worker.postMessage(job);
  });
}

export const places = { page: run, worker: runInWorker };

if (typeof WorkerGlobalScope !== "undefined") {
  addEventListener("unhandledrejection", ({ reason }) => postMessage({ uncaught: String(reason?.stack ?? reason) }));
  addEventListener("message", async ({ data: job }) => {
    postMessage({ code: await run(job, (said) => postMessage({ said })) });
  });
}
