import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, expect, test, vi } from 'vitest';

const programsOf = (file: string): string[] =>
  [...readFileSync(new URL(file, import.meta.url), 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code as string);
const files = ['../README.md', '../docs/design.md', '../docs/training.md', '../docs/checkpoints.md'];
const programs = files.flatMap(programsOf);
// Within the project, so that 'tracegrad' means its sources.
const folder = fileURLToPath(new URL('.readme/', import.meta.url));

/** Runs a program and returns what it logged. */
async function run(index: number): Promise<unknown[]> {
  const file = `${folder}program-${index}.ts`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, programs[index] as string);
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  try {
    await import(/* @vite-ignore */ file);
    return log.mock.calls.flat();
  } finally {
    log.mockRestore();
  }
}

/** The output of the program that has `text` in it. */
const runWith = (text: string): Promise<unknown[]> => run(programs.findIndex((code) => code.includes(text)));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the training loop of the README has at most 20 lines and learns the sine', async () => {
  expect(programs[0]?.split('\n').filter((line) => line.trim() !== '').length).toBeLessThanOrEqual(20);
  const output = await run(0);
  expect(output.slice(0, -1)).toHaveLength(5);
  expect((output.at(-1) as Float32Array)[0]).toBeCloseTo(Math.sin(1), 1);
});

test('the Hessian-vector product of the README is right', async () => {
  const [product] = (await run(1)) as [Float32Array];
  // (x tanh x)'' = 2 (1 - tanh^2 x) (1 - x tanh x)
  const t = Math.tanh(0.1);
  expect(product[0]).toBeCloseTo(2 * (1 - t * t) * (1 - 0.1 * t), 5);
  expect(product[1]).toBeCloseTo(0, 6);
});

test('the loop without a trainer of the guide finds the minimum', async () => {
  const [w] = (await runWith('applyUpdates')) as [Float32Array];
  expect(w[0]).toBeCloseTo(1, 1);
  expect(w[1]).toBeCloseTo(2, 1);
});

test('the programs of the training guide do what it says', async () => {
  const [accurate, sure, mean] = (await runWith('perplexity(')) as [boolean, boolean, Float32Array];
  expect([accurate, sure]).toEqual([true, true]);
  for (const value of mean) expect(value).toBeCloseTo(3, 0);
  const [slower] = (await runWith('trainer.learningRate =')) as [Float32Array];
  expect([...slower].map((value) => Math.round(100 * value))).toEqual([100, 200]);
  const [borrowed] = (await runWith('criterion')) as [Float32Array];
  expect(borrowed[0]).toBeCloseTo(2, 1);
});

test('the run of the checkpoint guide goes on as if it had not been interrupted', async () => {
  expect(await runWith('epoch === 1')).toEqual([true]);
});

test('the worker of the guide trains', async () => {
  const inFolder = (file: string) => `${folder}${file}`;
  mkdirSync(folder, { recursive: true });
  for (const code of programsOf('../docs/workers.md')) {
    const [, name] = code.match(/^\/\/ (\S+)\n/) ?? [];
    if (name) writeFileSync(inFolder(name), code);
  }
  const entryPoints = ['main.ts', 'worker.ts'].map(inFolder);
  await build({ entryPoints, outdir: folder, bundle: true, platform: 'node', format: 'esm', external: ['onnxruntime-node'] });
  const { stdout } = await promisify(execFile)(process.execPath, [inFolder('main.js')]);
  const [steps, prediction] = stdout.trim().split(' ').map(Number);
  expect(steps).toBe(300);
  expect(prediction).toBeCloseTo(6, 1);
});
