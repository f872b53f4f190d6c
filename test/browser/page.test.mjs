// Looks at the quickstart's status page in Chromium: no error in the console, each
// finding with its advice, and nothing that axe-core finds. With SCREENSHOTS=dir
// it keeps what it sees.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const wide = { width: 1400, height: 900 };
const modes = {
  light: { viewport: wide, colorScheme: "light" },
  dark: { viewport: wide, colorScheme: "dark" },
  narrow: { viewport: { width: 400, height: 800 } },
  nojs: { viewport: wide, javaScriptEnabled: false },
};
let browser, program, url;

before(async () => {
  program = spawn(process.env.QUICKSTART, ["-http", "127.0.0.1:0", "-for", "2s"], { stdio: ["ignore", "pipe", "inherit"] });
  url = await new Promise((found, failed) => {
    let text = "";
    program.stdout.on("data", (data) => {
      text += data;
      const at = /The status page is at (\S+);/.exec(text);
      if (at) found(at[1]);
    });
    program.on("exit", () => failed(new Error("quickstart ended:\n" + text)));
  });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: flags });
});

after(async () => {
  await browser?.close();
  program?.kill("SIGINT");
});

for (const [mode, options] of Object.entries(modes)) {
  test(mode, async () => {
    const page = await browser.newPage(options);
    const errors = [];
    page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") errors.push(m.text()); });
    page.on("pageerror", (e) => errors.push(String(e)));
    let visits = 0; // the page that reloads itself stays as it is: 204 leaves it
    if (mode === "nojs") await page.route(url, (route) => (visits++ ? route.fulfill({ status: 204 }) : route.continue()));
    await page.goto(url);
    await page.locator("#methods tbody tr").first().waitFor();
    if (mode !== "nojs") {
      const first = await page.locator("#live").textContent();
      await page.waitForFunction((was) => document.getElementById("live").textContent !== was, first);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than the window");
      await page.locator("#pause").click(); // so that axe-core looks at one state
      // Evaluated by the browser's protocol, which the page's policy does not concern.
      await page.evaluate((await import("node:fs")).readFileSync(axe, "utf8"));
      const { violations } = await page.evaluate(() => axe.run());
      assert.deepEqual(violations.map((v) => [v.id, v.nodes.map((n) => n.html + " " + n.failureSummary)]), []);
    }
    const advice = await page.locator("#now li").evaluateAll((all) => all.map((li) => li.querySelector(".turn")?.textContent ?? ""));
    for (const text of advice) assert.ok(text.length > 10, `advice ${JSON.stringify(text)}`);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${mode}.png`, fullPage: true });
    assert.deepEqual(errors, []);
    await page.close();
  });
}
