// The live page as a visitor has it. The one argument is the order, as JSON.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, serve } from "../browser/chromium.mjs";

const order = JSON.parse(process.argv[2]);
const timeout = order.limit * 1000;
const PROGRAMS = ["mutex", "semaphore", "rwlock", "condvar", "notify", "barrier", "deadlock"];

let server;
let browser;
let page; // one for all: to start Python takes longer than most tests
const wrong = []; // what went wrong on it unseen
before(async () => {
  server = await serve({ live: order.site });
  browser = await launch(order);
  page = await browser.newPage();
  page.setDefaultTimeout(timeout);
  page.on("pageerror", (error) => wrong.push(error.stack));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  await page.goto(`${server.url}/live/index.html`);
  await ready(page);
});
after(async () => {
  await browser.close();
  server.close();
});

// A test that finds one of the programs chosen and nothing running.
function visit(name, chosen, steps) {
  test(name, { timeout }, async () => {
    await page.setViewportSize({ width: 1200, height: 900 });
    await page.emulateMedia({ colorScheme: "light" });
    await choose(chosen);
    await steps();
    await picture(name);
    if ((await stop().getAttribute("aria-disabled")) === "false") await stop().click();
    await idle();
    await ready(page);
    assert.deepEqual(wrong.splice(0), []);
  });
}

async function picture(name) {
  if (!order.pictures) return;
  mkdirSync(order.pictures, { recursive: true });
  await page.screenshot({ path: join(order.pictures, `${name.replaceAll(/\W+/g, "-")}.png`), fullPage: true });
}

const ready = (page) => page.waitForSelector('html[data-python="ready"]');
const status = () => page.getByRole("status").textContent();
const run = () => page.getByRole("button", { name: "Run" });
const stop = () => page.getByRole("button", { name: "Stop" });
const program = () => page.getByRole("textbox", { name: "The program" });
const idle = () => page.waitForSelector('#run[aria-disabled="false"]');

async function choose(name) {
  await program().fill("");
  await page.getByLabel("Lock", { exact: true }).selectOption(name);
  await page.getByRole("button", { name: "Undo all changes" }).click(); // it may have been chosen already
  await page.waitForFunction(() => document.querySelector("#program").value);
}

async function runToItsEnd() {
  await run().click();
  await idle();
}

async function runThis(source) {
  await program().fill(source);
  await runToItsEnd();
}

// The events of one picture in words, without their times.
async function events(title = "asynclocks") {
  const all = await page.getByRole("region", { name: title, exact: true }).locator(".events li").allTextContents();
  return all.map((event) => event.replace(/^[\d.]+ s: /, "").replace(/ after \d+ ms$/, ""));
}

const output = () => page.getByLabel("What asynclocks printed").textContent();

visit("a cancelled task leaves the line and the others are served in their order", "mutex", async () => {
  await runToItsEnd();
  const held = (await events()).filter((event) => event.includes("holds"));
  assert.deepEqual(
    held,
    [1, 3, 4, 5].map((n) => `task ${n} holds mutex`),
  );
  assert.match(
    await status(),
    /Served in this order: task 1, task 3, task 4, task 5\. Cancelled while waiting: task 2\./,
  );
});

visit("who holds and who waits is seen while it lasts", "mutex", async () => {
  await page.getByLabel("Hold time").fill("2000");
  await page.getByLabel("Cancelled").fill("0");
  await run().click();
  await page.locator(".holds .chip").waitFor();
  await page.waitForFunction(() => document.querySelectorAll(".waits .chip").length === 4);
  assert.deepEqual(await page.locator("dd.holds .chip").allTextContents(), ["task 1"]);
  assert.deepEqual(
    await page.locator("dd.waits .chip").allTextContents(),
    [2, 3, 4, 5].map((n) => `task ${n}`),
  );
  assert.equal(await status(), "Running");
});

visit("smaller requests wait behind a larger one, until who made it is cancelled", "semaphore", async () => {
  await runToItsEnd();
  assert.deepEqual((await events()).slice(0, 8), [
    "task 1 holds semaphore",
    "task 2 holds semaphore",
    "task 3 waits for semaphore",
    "task 4 waits for semaphore",
    "task 5 waits for semaphore",
    "task 6 waits for semaphore",
    "task 3 is cancelled while it waits for semaphore",
    "task 4 holds semaphore",
  ]);
});

visit("readers share, and with asyncio's lock beside they do not", "rwlock", async () => {
  await runToItsEnd();
  const seconds = [...(await status()).matchAll(/took ([\d.]+) s/g)].map(([, told]) => Number(told));
  assert.equal(seconds.length, 2);
  assert.ok(seconds[1] > 1.2 * seconds[0], `${seconds}`);
  assert.deepEqual((await events()).slice(0, 2), ["reader 1 holds lock (read)", "reader 2 holds lock (read)"]);
  assert.ok((await events("asyncio.Lock")).includes("reader 2 waits for lock"));
});

visit("a condition variable frees the mutex while a task waits", "condvar", async () => {
  await runToItsEnd();
  assert.deepEqual((await events()).slice(0, 3), [
    "task 1 holds shelf",
    "task 1 frees shelf",
    "task 1 waits for filled",
  ]);
  assert.equal(await output(), [1, 2, 3, 4].map((parcel) => `got parcel ${parcel}\n`).join(""));
});

visit("notify wakes the oldest, the newest, then all", "notify", async () => {
  await runToItsEnd();
  assert.match(
    await status(),
    /Served in this order: task 2, task 5, task 3, task 4\. Cancelled while waiting: task 1\./,
  );
});

visit("a barrier waits for who comes in the place of a cancelled task", "barrier", async () => {
  await runToItsEnd();
  const went = (await events()).filter((event) => event.includes("goes on")).sort();
  assert.deepEqual(
    went,
    [2, 3, 4, 5].map((n) => `task ${n} goes on`),
  );
});

visit("a deadlock is drawn as its circle, and asyncio's locks wait for ever", "deadlock", async () => {
  await page.getByLabel("Tasks").fill("3");
  await runToItsEnd();
  const circle = page.getByRole("figure", { name: "The circle" });
  const drawn = await circle.locator("svg text").allTextContents();
  assert.deepEqual(drawn, ["guest 3", "fork 1", "guest 1", "fork 2", "guest 2", "fork 3"]);
  assert.equal(
    (await circle.getByRole("listitem").allTextContents())[0],
    "task 'guest 3' waits for Mutex 'fork 1' held by task 'guest 1'",
  );
  assert.match(await status(), /A deadlock was found.* With asyncio\.Lock: Still waiting 2 s after ours had ended/);
  assert.equal(await page.getByRole("region", { name: "asyncio.Lock" }).locator("dd.waits .chip").count(), 3);
});

visit("a field changes its line of the program and leaves the visitor's own changes", "mutex", async () => {
  const mine = `${await program().inputValue()}\nprint("mine")\n`;
  await program().fill(mine);
  await page.getByLabel("Tasks").fill("2");
  await page.getByLabel("Hold time").fill("100");
  assert.equal(
    await program().inputValue(),
    mine.replace("TASKS = 5", "TASKS = 2").replace("HOLD = 0.4", "HOLD = 0.1"),
  );
  await program().fill(mine.replace("TASKS = 5", "TASKS = 3"));
  assert.equal(await page.getByLabel("Tasks").inputValue(), "3");
  await page.getByRole("button", { name: "Undo all changes" }).click();
  await page.waitForFunction(() => document.querySelector("#TASKS").value === "5");
  assert.ok(!(await program().inputValue()).includes("mine"));
});

visit("an edited program runs, prints, and may use the locks in any spelling", "mutex", async () => {
  await runThis(`
import asyncio
from asynclocks import Mutex
from live import shown

mutex = shown(Mutex(0), "mine")
PERMITS = 1

async def main():
    guard = await mutex.lock()
    guard.value += 41
    guard.release()
    with mutex.try_lock() as guard:
        guard.value += 1
        print("the value is", guard.value)

asyncio.run(main())
`);
  assert.equal(await output(), "the value is 42\n");
  assert.deepEqual(await events(), ["main holds mine", "main frees mine", "main holds mine", "main frees mine"]);
});

visit("a program that fails shows its own lines", "mutex", async () => {
  await runThis("import asyncio\nasync def main():\n    raise ValueError('what now')\nasyncio.run(main())\n");
  const lines = ["Traceback (most recent call last):", '  File "program.py", line 3, in main'];
  lines.push("    raise ValueError('what now')", "ValueError: what now", "");
  assert.equal(await output(), lines.join("\n"));
  assert.match(await status(), /The program failed\./);
});

visit("a text that is no Python is refused with its place", "mutex", async () => {
  await runThis("async with:\n");
  assert.match(await output(), /File "program\.py", line 1\n.*\n.*\nSyntaxError/);
});

visit("a program that never ends can be stopped, and Python starts anew", "mutex", async () => {
  await program().fill("while True:\n    pass\n");
  await run().click();
  await stop().click(); // the page answers, though Python does not
  await idle();
  assert.match(await status(), /Stopped\./);
  await ready(page);
  await runThis("print('again')\n");
  assert.equal(await output(), "again\n");
});

visit("a program that waits for ever is stopped without losing Python", "mutex", async () => {
  await program().fill("import asyncio, builtins\nbuiltins.kept = 1\nasyncio.run(asyncio.Event().wait())\n");
  await run().click();
  await stop().click();
  await idle();
  await runThis("print(kept)\n");
  assert.equal(await output(), "1\n");
});

visit("it can be used by the keyboard alone", "mutex", async () => {
  const focused = () => page.evaluate(() => document.activeElement.id);
  const seen = [];
  await page.getByRole("link", { name: "Pyodide" }).focus();
  for (let step = 0; step < 9; step++) {
    await page.keyboard.press("Tab");
    seen.push(await focused());
  }
  assert.deepEqual(seen, ["primitive", "TASKS", "HOLD", "CANCELLED", "beside", "run", "stop", "program", "reset"]);
  await page.keyboard.press("Shift+Tab");
  assert.equal(await focused(), "program"); // Tab leaves the editor: nobody is kept there
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector('#run[aria-disabled="true"]');
  await idle();
  assert.match(await status(), /Served in this order/);
  assert.equal(await focused(), "program");
  await page.locator("#primitive").focus();
  await page.keyboard.press("End"); // the last of the choices
  await page.waitForFunction(() => document.querySelector("#about").textContent.includes("fork"));
  await run().focus();
  await page.keyboard.press("Enter");
  await page.getByRole("figure", { name: "The circle" }).waitFor();
  await stop().focus();
  await page.keyboard.press("Space");
  await idle();
  assert.equal(await focused(), "stop"); // a button that can do nothing now keeps the focus
});

visit("a screen reader is told what everything is", "mutex", async () => {
  await runToItsEnd();
  const tree = await page.locator("body").ariaSnapshot();
  for (const told of [
    'heading "Locks, live" [level=1]',
    'combobox "Lock"',
    'spinbutton "Tasks"',
    'spinbutton "Hold time, milliseconds"',
    'spinbutton "Cancelled"',
    'checkbox "The same program with asyncio.Lock beside it"',
    'button "Run"',
    "status: ",
    'region "asynclocks"',
    'heading "In order" [level=4]',
    'textbox "The program"',
  ]) {
    assert.ok(tree.includes(told), `${told} is not in\n${tree}`);
  }
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
});

for (const scheme of ["light", "dark"]) {
  visit(`every text can be read when the visitor's system is ${scheme}`, "mutex", async () => {
    await page.emulateMedia({ colorScheme: scheme });
    const seen = new Set();
    for (const name of ["mutex", "deadlock"]) {
      await choose(name);
      await run().click();
      await page.locator(".waits .chip").first().waitFor();
      for (const text of await page.evaluate(texts)) seen.add(JSON.stringify(text));
      await idle();
      for (const text of await page.evaluate(texts)) seen.add(JSON.stringify(text));
    }
    const all = [...seen].map((text) => JSON.parse(text));
    assert.ok(all.length > 10);
    const faint = all.filter(({ ink, ground }) => contrast(ink, ground) < 4.5);
    assert.deepEqual(faint, []);
    const dark = luminance(await page.evaluate(() => getComputedStyle(document.body).backgroundColor)) < 0.2;
    assert.equal(dark, scheme === "dark");
  });
}

// On the page: each text with its colour and the one behind it.
function texts() {
  const solid = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? solid(element.parentElement) : colour;
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("noscript")) continue;
    const style = getComputedStyle(element);
    const box = element.matches("svg text") && element.previousElementSibling;
    const [ink, ground] = box ? [style.fill, getComputedStyle(box).fill] : [style.color, solid(element)];
    found.push({ ink, ground, where: `${element.tagName}.${element.className.baseVal ?? element.className}` });
  }
  return found;
}

// As WCAG defines them.
function luminance(colour) {
  const [red, green, blue] = colour
    .match(/[\d.]+/g)
    .slice(0, 3)
    .map((part) => {
      const share = Number(part) / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [bright, dim] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (bright + 0.05) / (dim + 0.05);
}

visit("nothing is wider than a narrow telephone", "mutex", async () => {
  await page.setViewportSize({ width: 360, height: 700 });
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  for (const name of PROGRAMS) {
    await choose(name);
    assert.equal(await wide(), 0, name);
    await page.getByLabel("Tasks").fill("9");
    await page.getByLabel("Hold time").fill("100");
    await runToItsEnd();
    assert.equal(await wide(), 0, `${name}, after a run`);
  }
});

test("everything comes from where the page is", { timeout }, async () => {
  const other = await browser.newPage();
  const asked = [];
  other.on("request", (request) => asked.push(request.url()));
  other.on("worker", (worker) => asked.push(worker.url()));
  await other.goto(`${server.url}/live/index.html`);
  await ready(other);
  assert.ok(asked.some((url) => url.endsWith(".wasm")));
  assert.deepEqual(
    asked.filter((url) => !url.startsWith(server.url) && !url.startsWith("data:")),
    [],
  );
  await other.close();
});

test("what cannot be loaded is said", { timeout }, async () => {
  const other = await browser.newPage();
  await other.route("**/library.zip", (route) => route.fulfill({ status: 404 }));
  await other.goto(`${server.url}/live/index.html`);
  await other.waitForSelector('html[data-python="broken"]');
  assert.equal(await other.getByRole("status").textContent(), "Python cannot be started: Error: library.zip: 404");
  await other.close();
});
