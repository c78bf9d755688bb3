import { parseArgs } from 'node:util';
import { createBackend } from '../src/node.js';
import { webgpuBackend } from '../test/support/devices.js';
import { goldenFiles, runGoldenFile } from './golden/runner.js';

const USAGE = 'npm run golden -- --dir <folder> [--match <prefix>] [--device cpu|webgpu]';

async function openDevice(device: string) {
  if (device === 'cpu') return createBackend({ device });
  if (device === 'wasm') throw new Error('--device wasm: not supported yet; use cpu or webgpu');
  if (device !== 'webgpu') throw new Error(`--device: expected cpu or webgpu, received '${device}'\n${USAGE}`);
  const backend = await webgpuBackend();
  if (!backend) throw new Error('--device webgpu: there is no such device here');
  return backend;
}

/** Runs the golden files of a folder and prints a line for each, and the sums last. Returns whether nothing failed. */
async function main(): Promise<boolean> {
  const { dir, match, device } = parseArgs({
    options: { dir: { type: 'string' }, match: { type: 'string', default: '' }, device: { type: 'string', default: 'cpu' } },
  }).values;
  if (dir === undefined) throw new Error(`--dir is missing\n${USAGE}`);
  const files = goldenFiles(dir, match);
  if (files.length === 0) throw new Error(`no golden file in ${dir} has a name that begins with '${match}'`);
  await using backend = await openDevice(device);
  const total = { passed: 0, failed: 0, unknown: 0 };
  for (const file of files) {
    const { name, passed, failed, unknown, worst, failures } = await runGoldenFile(file, { backend });
    const counts = `${name.padEnd(36)} ${passed} passed, ${failed} failed, ${unknown} unknown`;
    console.log(unknown > 0 ? counts : `${counts}, largest error ${(100 * worst).toPrecision(2)} % of what is allowed`);
    for (const failure of failures) console.log(`    ${failure}`);
    total.passed += passed;
    total.failed += failed;
    total.unknown += unknown;
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.unknown} unknown`);
  return total.failed === 0;
}

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  console.error(`golden: ${(error as Error).message}`);
  process.exitCode = 1;
}
