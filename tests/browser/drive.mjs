// Serves the bed and the repository to headless Chromium on 127.0.0.1, and does the order's runs, one fresh page each.
// The order is the one argument, as JSON. What pytest says last of each run is said once more at the end.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const order = JSON.parse(process.argv[2]);
const folders = { bed: order.bed, repo: order.repo };
const types = { ".html": "text/html", ".mjs": "text/javascript", ".json": "application/json", ".wasm": "application/wasm" };
const page = "/repo/tests/browser/page.html";
const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

async function serve(request, response) {
  const [, top, ...rest] = normalize(decodeURIComponent(new URL(request.url, "http://bed").pathname)).split("/");
  const file = join(folders[top] ?? "/nowhere", ...rest);
  const found = await stat(file).then((what) => what.isFile(), () => false);
  response.writeHead(found ? 200 : 404, { "content-type": types[extname(file)] ?? "application/octet-stream" });
  if (found) createReadStream(file).pipe(response);
  else response.end();
}

// Its exit code, and what pytest said last.
async function run(browser, url, { place, ...job }) {
  let said = "";
  const say = (more) => {
    said += more;
    process.stdout.write(more);
  };
  const tab = await browser.newPage();
  const failed = new Promise((_, reject) => {
    tab.on("pageerror", (error) => reject(new Error(`uncaught, outside of every test: ${error.stack ?? error}`)));
    tab.on("crash", () => reject(new Error("the page crashed")));
    const late = () => reject(new Error(`ended after ${order.limit} s: it hangs, or needs --limit; -v names the test`));
    setTimeout(late, order.limit * 1000);
  });
  await tab.exposeFunction("say", say);
  await tab.goto(url + page, { timeout: order.limit * 1000 });
  const running = tab.evaluate(
    async ([place, job]) => (await import("/repo/tests/browser/place.mjs")).places[place](job, window.say),
    [place, { ...job, columns: order.columns }],
  );
  const code = await Promise.race([running, failed]).catch((error) => {
    console.error(`${place}: ${error.message}`);
    return 99;
  });
  await tab.close();
  return { code, closing: said.match(/^=+ .* in [\d.]+s.*=+$/gm)?.at(-1) };
}

const server = createServer(serve);
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const { chromium } = await import(pathToFileURL(join(order.bed, "node_modules/playwright-core/index.mjs")));
const browser = await chromium.launch({
  executablePath: order.chromium,
  args: ["--disable-gpu", "--disable-quic", ...quiet],
  timeout: order.limit * 1000, // a busy machine may take more than playwright's half minute
});
const codes = [];
const summary = [];
for (const job of order.runs) {
  console.log(`\nChromium ${browser.version()}, ${job.place}, driver ${job.driver}`);
  const { code, closing } = await run(browser, `http://127.0.0.1:${server.address().port}`, job);
  codes.push(code);
  summary.push(`${job.place}, driver ${job.driver}, exit code ${code}`, ...(closing ? [closing] : []));
}
await browser.close();
server.close();
console.log(["", ...summary].join("\n"));
process.exit(Math.max(...codes));
