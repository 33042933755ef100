// Starts Pyodide on Node and hands over to inside.py. Its one argument is the order, as JSON.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { enter } from "./enter.mjs";

const order = JSON.parse(process.argv[2]);

process.on("uncaughtException", (error) => {
  console.error("uncaught, outside of every test:", error);
  process.exit(99);
});

const { loadPyodide } = await import(pathToFileURL(join(order.bed, "node_modules/pyodide/pyodide.mjs")));
const py = await loadPyodide({ env: { HOME: "/home/pyodide", COLUMNS: process.env.COLUMNS ?? "100" } });
py.mountNodeFS("/repo", order.repo);
py.mountNodeFS("/bed", order.bed);
process.exit(await enter(py, { ...order, measured: true }));
