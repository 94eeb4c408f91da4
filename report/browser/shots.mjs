// Screenshots of the report for a person to look at: node shots.mjs FOLDER [ANCHOR...]
import { mkdirSync } from "node:fs";
import { launch, open } from "./browser.mjs";

const [folder = "shots", ...anchors] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await launch();
for (const width of [360, 768, 1440]) {
  for (const dark of [false, true]) {
    for (const anchor of ["", ...anchors]) {
      const { page } = await open(browser, { width, dark, hash: anchor && `#${anchor}` });
      await page.screenshot({ path: `${folder}/${anchor || "top"}-${width}-${dark ? "dark" : "light"}.png` });
      await page.close();
    }
  }
}
await browser.close();
