// What a reader does with the report, in a real browser. Without Chromium nothing is tested, and that is said.
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { HtmlValidate } from "html-validate";
import { chromium, launch, open, report } from "./browser.mjs";

const skip = chromium ? false : "no Chromium: apt-get install --no-install-recommends chromium, or name one in CHROMIUM";
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");
let browser;

before(async () => {
  if (!skip) browser = await launch();
});
after(async () => browser?.close());

test("the file is small and valid", async () => {
  assert.ok(statSync(report).size < 3_000_000);
  const html = new HtmlValidate({ extends: ["html-validate:standard"], rules: { "no-inline-style": "off", "long-title": "off" } });
  const result = await html.validateFile(report);
  const found = result.results.flatMap((of) => of.messages).map((of) => `${of.line}: ${of.ruleId}: ${of.message}`);
  assert.deepEqual(found.slice(0, 10), []);
});

test("no request leaves the file, and nothing is wrong in its script", { skip }, async () => {
  const { page, requests } = await open(browser);
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.reload();
  assert.ok(requests.every((url) => url.startsWith("file:") || url.startsWith("data:")), requests.join(" "));
  assert.deepEqual(errors, []);
});

test("the answer stands on the first screen", { skip }, async () => {
  const { page } = await open(browser);
  const bottom = await page.$eval(".answer tbody", (body) => body.getBoundingClientRect().bottom);
  assert.ok(bottom < 900, `the last claim ends at ${bottom}`);
  const hidden = await page.$eval(".answer .scroll", (table) => table.scrollWidth - table.clientWidth);
  assert.ok(hidden <= 0, `${hidden} pixels of the answer are to be scrolled to`);
});

test("nothing but tables and contents scrolls sideways", { skip }, async () => {
  for (const width of [360, 768, 1440]) {
    const { page } = await open(browser, { width });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${wide} at ${width}`);
  }
});

test("the first column and the contents stay in sight", { skip }, async () => {
  const { page } = await open(browser, { width: 360, height: 740 });
  const left = await page.$$eval(".scroll:has(thead th:nth-child(6))", (all) => {
    all[0].scrollLeft = 500;
    return all[0].querySelector("tbody th").getBoundingClientRect().left - all[0].getBoundingClientRect().left;
  });
  assert.equal(left, 0);
  await page.evaluate(() => scrollTo(0, 5000));
  assert.equal(await page.$eval(".toc", (toc) => toc.getBoundingClientRect().top), 0);
});

test("tables sort by number and filter by words", { skip }, async () => {
  const { page } = await open(browser);
  const sorted = await page.$$eval("section:not(.answer) .scroll > table", (tables) => {
    const table = tables.find((of) => of.tBodies[0].rows.length > 5 && of.tHead.querySelector("th.right button.sort"));
    const column = [...table.tHead.rows[0].cells].findIndex((of) => of.classList.contains("right"));
    table.tHead.rows[0].cells[column].querySelector("button").click();
    const values = [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[column].textContent.replaceAll(",", "")));
    return { values: values.filter((value) => !Number.isNaN(value)), sort: table.tHead.rows[0].cells[column].ariaSort };
  });
  assert.deepEqual(sorted.values, [...sorted.values].sort((a, b) => a - b));
  assert.equal(sorted.sort, "ascending");
  await page.type("label.filter input", "identity");
  const shown = await page.$$eval(".answer .scroll:first-of-type tbody tr:not([hidden])", (rows) => rows.map((row) => row.textContent));
  assert.ok(shown.length > 0 && shown.every((text) => text.toLowerCase().includes("identity")));
});

test("a number opens where it comes from, by mouse and by keyboard", { skip }, async () => {
  const { page } = await open(browser);
  const opened = () => page.$$eval(".origin:popover-open", (all) => all.map((of) => of.textContent));
  await page.click("section:not(.answer) td.ours button");
  assert.match((await opened())[0], /commit.*machine.*runs it again/s);
  await page.keyboard.press("Escape");
  assert.deepEqual(await opened(), []);
  await page.focus("section:not(.answer) td.ours button");
  await page.keyboard.press("Enter");
  assert.equal((await opened()).length, 1);
  await page.keyboard.press("Escape");
  await page.click("section:not(.answer) td.paper button");
  assert.match((await opened())[0], /MobileNe.*From: .*(seen|derived|recalled)/s);
});

test("a deep link opens a row, and one to a heading shows it", { skip }, async () => {
  const { page } = await open(browser);
  const id = await page.$eval(".origin[id^='cell.']", (of) => of.id);
  for (const script of [true, false]) {
    const { page } = await open(browser, { hash: `#${id}`, script });
    const box = await (await page.$(`[id="${id}"]`)).boundingBox();
    assert.ok(box && box.height > 50, `with script: ${script}`);
  }
  const heading = await page.$eval("main h3", (of) => of.id);
  const { page: other } = await open(browser, { hash: `#${heading}` });
  const top = await other.$eval(`[id="${heading}"]`, (of) => of.getBoundingClientRect().top);
  assert.ok(top >= 0 && top < 900);
});

test("without script everything is there", { skip }, async () => {
  const { page } = await open(browser, { script: false });
  const { page: full } = await open(browser);
  const rows = (page) => page.$$eval("main tbody tr", (rows) => rows.length);
  assert.equal(await page.$$("main tbody tr").then((rows) => rows.length), await rows(full));
  assert.equal((await page.$$("button.sort")).length, 0);
});

test("it prints", { skip }, async () => {
  const { page } = await open(browser);
  const pdf = await page.pdf({ format: "A4" });
  assert.ok(pdf.length > 50_000);
  await page.emulateMediaType("print");
  assert.equal(await page.$eval(".toc", (toc) => getComputedStyle(toc).display), "none");
});

for (const dark of [false, true]) {
  test(`axe-core finds nothing serious, ${dark ? "dark" : "light"}`, { skip, timeout: 240_000 }, async () => {
    for (const width of [360, 1440]) {
      const { page } = await open(browser, { width, dark });
      await page.evaluate(axe);
      const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      const serious = found.violations.filter((of) => ["serious", "critical"].includes(of.impact));
      const told = serious.map((of) => `${of.id}: ${of.help}: ${of.nodes[0].html.slice(0, 160)}`);
      assert.deepEqual(told, []);
    }
  });
}
