// What Pyodide misses while it loads at a Worker's global scope. To be imported before pyodide.mjs.
import wasm from "pyodide.asm.wasm";
import stdlib from "python_stdlib.zip";
import lock from "pyodide-lock.json";
import { env } from "cloudflare:workers";

// Code may be compiled through a binding only.
const { Module, Instance } = WebAssembly;
const compiled = (source) => {
  if (source instanceof Module) return source;
  return env.UNSAFE_EVAL.newWasmModule(source instanceof ArrayBuffer ? new Uint8Array(source) : source);
};
WebAssembly.Module = new Proxy(Module, { construct: (_, [source]) => compiled(source) });
WebAssembly.compile = async (source) => compiled(source);
WebAssembly.instantiate = async (source, imports) => {
  const module = compiled(source);
  const instance = new Instance(module, imports);
  return source instanceof Module ? instance : { module, instance };
};
WebAssembly.instantiateStreaming = async (_, imports) => ({ module: wasm, instance: new Instance(wasm, imports) });

// Pyodide's own files come from the modules beside this one; all else from the network as ever.
export const HOME = "https://pyodide.invalid/";
globalThis.location ??= new URL(HOME);
globalThis.addEventListener = () => {};
const networkFetch = globalThis.fetch;
globalThis.fetch = (what, options) => {
  const url = String(what?.url ?? what);
  if (!url.startsWith(HOME)) return networkFetch(what, options);
  const bytes = url.endsWith("python_stdlib.zip") ? stdlib : new ArrayBuffer(0);
  return Promise.resolve({ ok: true, arrayBuffer: async () => bytes, json: async () => JSON.parse(lock) });
};

// No timers and no randomness at the global scope.
const timeout = globalThis.setTimeout;
globalThis.setTimeout = (callback, delay, ...args) => {
  try {
    return timeout(callback, delay, ...args);
  } catch {
    queueMicrotask(() => callback(...args));
    return 0;
  }
};
const random = crypto.getRandomValues.bind(crypto);
let seed = 1;
crypto.getRandomValues = (array) => {
  try {
    return random(array);
  } catch {
    for (let i = 0; i < array.length; i++) array[i] = seed = (seed * 48271) % 0x7fffffff;
    return array;
  }
};
