// A contact sheet of every morph target (every expression of a VRM) at weight 1, drawn by three.js in headless Chromium:
//   node scripts/screenshot_glb.mjs FILE.glb|FILE.vrm SHEET.png [--yaw DEG] [--zoom X] [--lift M] [--cell PX] [--only a,b,c]
// Needs "npm ci" in scripts/web once and an installed Chromium (CHROMIUM=PATH names another browser).
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

function stop(line) {
  console.error(line);
  process.exit(2);
}

const [glb, png, ...rest] = process.argv.slice(2);
if (!glb || !png) stop('usage: node scripts/screenshot_glb.mjs FILE.glb SHEET.png [--yaw DEG] [--zoom X] [--only a,b]');
if (!existsSync(glb)) stop(`${glb}: no such file`);
const options = new URLSearchParams();
for (let i = 0; i + 1 < rest.length; i += 2) options.set(rest[i].replace(/^--/, ''), rest[i + 1]);

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(new URL('./web/', import.meta.url));
let chromium;
try {
  chromium = require('playwright-core').chromium;
  require.resolve('three');
  require.resolve('@pixiv/three-vrm');
} catch {
  stop('playwright-core, three or three-vrm is missing: run "npm ci" in scripts/web once');
}
const browserPath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  .find((p) => p && existsSync(p));
if (!browserPath) stop('no Chromium found: install the chromium package, or set CHROMIUM to a browser');

const modules = join(here, 'web', 'node_modules');
const server = createServer((request, response) => {
  const path = normalize(new URL(request.url, 'http://localhost').pathname);
  let file;
  if (path === '/') file = join(here, 'screenshot_glb.html');
  else if (path === '/avatar.glb') file = glb;
  else if (path.startsWith('/modules/')) file = join(modules, path.slice('/modules/'.length));
  if (!file || !existsSync(file)) {
    response.writeHead(404).end();
    return;
  }
  const type = file.endsWith('.html') ? 'text/html' : file.endsWith('.js') ? 'text/javascript' : 'model/gltf-binary';
  response.writeHead(200, { 'content-type': type }).end(readFileSync(file));
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));

const profile = mkdtempSync(join(tmpdir(), 'omote-chromium-'));
let browser;
let code = 0;
try {
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: browserPath,
    headless: true,
    args: ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--disable-quic',
      '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = browser.pages()[0] ?? await browser.newPage();
  const problems = [];
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) problems.push(m.text()); });
  page.on('pageerror', (e) => problems.push(String(e)));
  await page.goto(`http://127.0.0.1:${server.address().port}/?${options}`);
  await page.waitForFunction('window.result !== undefined', undefined, { timeout: 180000 });
  const result = await page.evaluate('window.result');
  if (result.error) {
    console.error(`${glb}: three.js could not draw it: ${result.error}`);
    code = 1;
  } else {
    const url = await page.evaluate("document.querySelector('canvas').toDataURL('image/png')");
    writeFileSync(png, Buffer.from(url.split(',')[1], 'base64'));
    console.log(`${png}: ${result.names.length} targets, primitives ${result.meshes.join(' ')}` +
      (result.vrm ? `, VRM ${result.vrm.name} by ${result.vrm.authors.join(', ')}` : ''));
    for (const line of problems.filter((p) => !/GPU stall|swiftshader|favicon|404/i.test(p))) console.log(`  ${line}`);
  }
} catch (error) {
  console.error(`the browser did not run: ${String(error).split('\n')[0]}`);
  code = 2;
} finally {
  await browser?.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(code);
