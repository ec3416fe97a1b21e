// A report as a desktop and as a phone show it, and whether it keeps its promises:
//   node scripts/screenshot_page.mjs PAGE.html OUT_PREFIX
// Writes OUT_PREFIX_desktop.png and OUT_PREFIX_phone.png (1200 and 400 px wide). Exit code 1 if the page asks for anything
// beside itself, is wider than its window, or has a picture that does not load.
// Needs "npm ci" in scripts/web once and an installed Chromium (CHROMIUM=PATH names another browser).
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

function stop(line) {
  console.error(line);
  process.exit(2);
}

const [page, prefix] = process.argv.slice(2);
if (!page || !prefix) stop('usage: node scripts/screenshot_page.mjs PAGE.html OUT_PREFIX');
if (!existsSync(page)) stop(`${page}: no such file`);

let chromium;
try {
  chromium = createRequire(new URL('./web/', import.meta.url))('playwright-core').chromium;
} catch {
  stop('playwright-core is missing: run "npm ci" in scripts/web once');
}
const browserPath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  .find((p) => p && existsSync(p));
if (!browserPath) stop('no Chromium found: install the chromium package, or set CHROMIUM to a browser');

const address = pathToFileURL(resolve(page)).href;
let problems = 0;
const browser = await chromium.launch({
  executablePath: browserPath,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync'],
});
try {
  for (const [name, width, height] of [['desktop', 1200, 900], ['phone', 400, 800]]) {
    const view = await browser.newPage({ viewport: { width, height } });
    const found = [];
    view.on('request', (r) => {
      if (r.url() !== address && !r.url().startsWith('data:')) found.push(`asks for ${r.url().slice(0, 80)}`);
    });
    view.on('console', (m) => found.push(m.text()));
    view.on('pageerror', (e) => found.push(String(e)));
    await view.goto(address);
    const [wide, broken, pictures] = await view.evaluate(() => [
      document.documentElement.scrollWidth,
      [...document.images].filter((i) => !i.complete || !i.naturalWidth).length,
      document.images.length,
    ]);
    if (wide > width) found.push(`is ${wide} px wide in a window of ${width}`);
    if (broken) found.push(`${broken} of ${pictures} pictures do not load`);
    await view.screenshot({ path: `${prefix}_${name}.png`, fullPage: true });
    console.log(`${prefix}_${name}.png: ${pictures} pictures, ${found.length} problems`);
    for (const line of found) console.log(`  ${line}`);
    problems += found.length;
  }
} finally {
  await browser.close();
}
process.exit(problems ? 1 : 0);
