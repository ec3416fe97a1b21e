// Khronos glTF validator on one or more files: node scripts/validate_glb.mjs FILE.glb...
// Prints one line per file and each problem; exits with 1 if any file has errors.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error('usage: node scripts/validate_glb.mjs FILE.glb...');
  process.exit(2);
}
let validator;
try {
  validator = createRequire(new URL('./web/', import.meta.url))('gltf-validator');
} catch {
  console.error('gltf-validator is missing: run "npm ci" in scripts/web once');
  process.exit(2);
}

let failed = false;
for (const file of files) {
  let bytes;
  try {
    bytes = new Uint8Array(readFileSync(file));
  } catch (error) {
    console.error(`${file}: cannot be read (${error.code})`);
    process.exit(2);
  }
  const report = await validator.validateBytes(bytes, { uri: file, maxIssues: 200 });
  const { numErrors, numWarnings, numInfos, numHints } = report.issues;
  console.log(`${file}: numErrors ${numErrors} numWarnings ${numWarnings} numInfos ${numInfos} numHints ${numHints} ` +
    `(${(bytes.length / 1e6).toFixed(1)} MB, ${report.info?.totalVertexCount} vertices, ` +
    `${report.info?.totalTriangleCount} triangles)`);
  const level = ['error', 'warning', 'info', 'hint'];
  for (const m of report.issues.messages.slice(0, 40)) {
    console.log(`  ${level[m.severity]} ${m.code} ${m.pointer ?? ''}: ${m.message}`);
  }
  failed ||= numErrors > 0;
}
process.exit(failed ? 1 : 0);
