// A Worker in Python: Pyodide and the packages of site.zip, made at the global scope, serve the module `app`.
// The bed appends a line for each Durable Object class.
import { HOME } from "patch.mjs";
import lock from "pyodide-lock.json";
import site from "site.zip";
import * as cloudflareWorkersModule from "cloudflare:workers";
import { loadPyodide } from "pyodide.mjs";
import createPyodideModule from "pyodide.asm.mjs";

const { DurableObject, env } = cloudflareWorkersModule;
const py = await loadPyodide({
  indexURL: HOME,
  packageBaseUrl: HOME,
  lockFileContents: JSON.parse(lock),
  createPyodideModule,
  env: { HOME: "/home/pyodide", PYTHONHASHSEED: "1", PYTHONDONTWRITEBYTECODE: "1" },
  stdout: (line) => console.log(line),
  stderr: (line) => console.error(line),
});
py.unpackArchive(site, "zip", { extractDir: "/work" });
py.runPython("import os, sys; os.chdir('/work'); sys.path.insert(0, '/work')");
if (env.SDK) {
  // As a Python Worker's runtime does for the package `workers`.
  py.registerJsModule("_pyodide_entrypoint_helper", {
    cloudflareWorkersModule,
    doAnImport: (name) => import(name),
    patchWaitUntil: () => {},
  });
  py.registerJsModule("_cloudflare_compat_flags", {});
}
const inside = py.pyimport("tests.workerd.inside");
inside.load(env.APP, Boolean(env.MEASURE));

export default {
  fetch: (request, env, ctx) => inside.fetch(request, env, ctx),
};

class PythonObject extends DurableObject {
  constructor(state, env) {
    super(state, env);
    this.python = inside.make(new.target.name, state, env);
  }
  fetch(request) {
    return inside.fetch_from(this.python, request);
  }
}
