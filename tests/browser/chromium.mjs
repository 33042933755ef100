// What a page in headless Chromium needs: somebody who serves its files on 127.0.0.1, and the browser.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const types = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};
const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

// Serves each folder under its name.
export async function serve(folders) {
  const server = createServer(async (request, response) => {
    const [, top, ...rest] = normalize(decodeURIComponent(new URL(request.url, "http://bed").pathname)).split("/");
    const file = join(folders[top] ?? "/nowhere", ...rest);
    const found = await stat(file).then(
      (what) => what.isFile(),
      () => false,
    );
    response.writeHead(found ? 200 : 404, { "content-type": types[extname(file)] ?? "application/octet-stream" });
    if (found) createReadStream(file).pipe(response);
    else response.end();
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

export async function launch({ bed, chromium: executablePath, limit }) {
  const { chromium } = await import(pathToFileURL(join(bed, "node_modules/playwright-core/index.mjs")));
  return await chromium.launch({
    executablePath,
    args: ["--disable-gpu", "--disable-quic", ...quiet],
    timeout: limit * 1000, // a busy machine may take more than playwright's half minute
  });
}
