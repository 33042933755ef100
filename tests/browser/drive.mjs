// Serves the bed and the repository to headless Chromium on 127.0.0.1, and does the order's runs, one fresh page each.
// The order is the one argument, as JSON. What pytest says last of each run is said once more at the end.
import { launch, serve } from "./chromium.mjs";

const order = JSON.parse(process.argv[2]);
const page = "/repo/tests/browser/page.html";

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

const server = await serve({ bed: order.bed, repo: order.repo });
const browser = await launch(order);
const codes = [];
const summary = [];
for (const job of order.runs) {
  console.log(`\nChromium ${browser.version()}, ${job.place}, driver ${job.driver}`);
  const { code, closing } = await run(browser, server.url, job);
  codes.push(code);
  summary.push(`${job.place}, driver ${job.driver}, exit code ${code}`, ...(closing ? [closing] : []));
}
await browser.close();
server.close();
console.log(["", ...summary].join("\n"));
process.exit(Math.max(...codes));
