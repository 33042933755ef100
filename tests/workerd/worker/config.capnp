using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "internet", network = (allow = ["local"])),
    (name = "worker", worker = .worker),
    (name = "front", worker = .front),
  ],
  sockets = [
    (name = "worker", address = "127.0.0.1:0", http = (), service = "worker"),
    (name = "front", address = "127.0.0.1:0", http = (), service = "front"),
  ],
);

const worker :Workerd.Worker = (
  modules = [
    (name = "main.mjs", esModule = embed "main.mjs"),
    (name = "patch.mjs", esModule = embed "patch.mjs"),
    (name = "site.zip", data = embed "site.zip"),
    (name = "pyodide.mjs", esModule = embed "pyodide.mjs"),
    (name = "pyodide.asm.mjs", esModule = embed "pyodide.asm.mjs"),
    (name = "pyodide.asm.wasm", wasm = embed "pyodide.asm.wasm"),
    (name = "python_stdlib.zip", data = embed "python_stdlib.zip"),
    (name = "pyodide-lock.json", text = embed "pyodide-lock.json"),
  ],
  compatibilityDate = "2026-01-01",
  bindings = [
    (name = "UNSAFE_EVAL", unsafeEval = void),
    $BINDINGS
  ],
  durableObjectNamespaces = [$NAMESPACES],
  durableObjectStorage = (inMemory = void),
);

const front :Workerd.Worker = (
  modules = [(name = "front.mjs", esModule = embed "front.mjs")],
  compatibilityDate = "2026-01-01",
  bindings = [(name = "WORKER", service = "worker")],
);
