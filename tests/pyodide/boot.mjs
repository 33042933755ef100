// Starts Pyodide on Node and hands over to inside.py. Its one argument is the order, as JSON.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { bed, repo, driver, entry, args } = JSON.parse(process.argv[2]);

process.on("uncaughtException", (error) => {
  console.error("uncaught, outside of every test:", error);
  process.exit(99);
});

const { loadPyodide } = await import(pathToFileURL(join(bed, "node_modules/pyodide/pyodide.mjs")));
const py = await loadPyodide({ env: { HOME: "/home/pyodide", COLUMNS: process.env.COLUMNS ?? "100" } });
py.mountNodeFS("/repo", repo);
py.mountNodeFS("/bed", bed);
const inside = py.runPython(`
import os, sys
sys.path[:0] = ["/repo", "/bed/site"]
sys.pycache_prefix = "/bed/pycache"  # nothing of ours beside the sources
os.chdir("/repo")
import tests.pyodide.inside
tests.pyodide.inside
`);

// With stack switching the entry is no task: nothing but the test's own tasks are on the loop.
const code =
  entry === "script"
    ? await inside.run_script(py.toPy(args))
    : driver === "jspi"
      ? await inside.run_pytest_switching_stacks.callPromising(py.toPy(args))
      : await inside.run_pytest_awaiting(py.toPy(args));
process.exit(code);
