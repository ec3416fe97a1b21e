// Bundles the page into src/omote/studio/page, the same bytes every time. `sources.txt` there holds a digest of all that it is
// made from, by which a test tells whether the bundle is that of these sources.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, '../src/omote/studio/page');
rmSync(page, { recursive: true, force: true });
mkdirSync(page, { recursive: true });

const licenses = ['three', 'preact'].map((name) => {
  const text = readFileSync(join(here, 'node_modules', name, 'LICENSE'), 'utf8').trim();
  const { version } = JSON.parse(readFileSync(join(here, 'node_modules', name, 'package.json'), 'utf8'));
  return `${name} ${version}\n\n${text}\n`;
});
await build({
  absWorkingDir: here,
  entryPoints: ['src/studio.tsx', 'src/view.tsx', 'src/style.css'],
  outdir: page,
  bundle: true,
  minify: true,
  splitting: true,
  format: 'esm',
  target: ['es2022'],
  chunkNames: 'common-[hash]',
  legalComments: 'none',
  charset: 'utf8',
  jsx: 'automatic',
  jsxImportSource: 'preact',
});
for (const name of ['index.html', 'view.html', 'icon.svg']) copyFileSync(join(here, 'src', name), join(page, name));
writeFileSync(join(page, 'licenses.txt'), licenses.join('\n'));

const digest = createHash('sha256');
const sources = [...readdirSync(join(here, 'src')).sort().map((name) => `src/${name}`), 'build.mjs', 'package-lock.json', 'tsconfig.json'];
for (const name of sources) digest.update(`${name}\n`).update(readFileSync(join(here, name)));
writeFileSync(join(page, 'sources.txt'), `${digest.digest('hex')}\n`);
