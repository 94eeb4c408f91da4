// Opens the report from disk in the system's Chromium, with every request noted.
import { existsSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const chromium = [process.env.CHROMIUM, ...PLACES].find((path) => path && existsSync(path));
export const report = process.env.REPORT ?? fileURLToPath(new URL("../out/index.html", import.meta.url));
export const address = pathToFileURL(report).href;

export async function launch() {
  return puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
}

export async function open(browser, { width = 1440, height = 900, dark = false, script = true, hash = "" } = {}) {
  const page = await browser.newPage();
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.setViewport({ width, height });
  await page.setJavaScriptEnabled(script);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  await page.goto(address + hash);
  return { page, requests };
}
