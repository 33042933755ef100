// Hands over to inside.py in a Pyodide that finds the repository in /repo and the bed's wheels in /bed/site.
// The answer is the exit code.
export async function enter(py, { driver, entry, args, measured }) {
  const inside = py.runPython(`
    import os, sys
    sys.path[:0] = ["/repo", "/bed/site"]
    sys.pycache_prefix = "/bed/pycache"  # nothing of ours beside the sources
    os.chdir("/repo")
    import tests.pyodide.inside
    tests.pyodide.inside
  `);
  const given = py.toPy(args);
  if (entry === "script") return await inside.run_script(given);
  // With stack switching the entry is no task: nothing but the test's own tasks are on the loop.
  return driver === "jspi"
    ? await inside.run_pytest_switching_stacks.callPromising(given, measured)
    : await inside.run_pytest_awaiting(given, measured);
}
