import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { compare } from '../scripts/golden/compare.js';
import { goldenFiles, runGoldenFile } from '../scripts/golden/runner.js';
import type { Backend } from '../src/index.js';
import { testDevices } from './support/test-devices.js';

const folder = fileURLToPath(new URL('golden', import.meta.url));
const devices = await testDevices();

describe.each(devices)('golden files on %s', (_, backend) => {
  it.each(goldenFiles(folder).map((path) => [basename(path, '.json'), path]))('%s', async (_, path) => {
    const { failures, failed, unknown, passed } = await runGoldenFile(path, { backend });
    expect({ failures, failed, unknown }).toEqual({ failures: [], failed: 0, unknown: 0 });
    expect(passed).toBeGreaterThan(0);
  });
});

interface Case {
  options: Record<string, unknown>;
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown>;
}

const temporary = mkdtempSync(join(tmpdir(), 'golden-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** A copy of a golden file of ours whose first case is changed. */
function changed(name: string, change: (first: Case & { outputs: { loss: { data: number[] } } }) => void): string {
  const content = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  change(content.cases[0]);
  const path = join(temporary, `${name}.json`);
  writeFileSync(path, JSON.stringify(content));
  return path;
}

describe('the golden runner', () => {
  const backend = (devices[0] as readonly [string, Backend])[1];
  const failuresOf = async (path: string) => (await runGoldenFile(path, { backend })).failures;

  it('fails on a wrong value, and counts the case', async () => {
    const path = changed('loss-mse', ({ outputs }) => {
      outputs.loss.data[0] = 2.397;
    });
    const { passed, failed, failures } = await runGoldenFile(path, { backend });
    expect({ passed, failed }).toEqual({ passed: 1, failed: 1 });
    expect(failures).toEqual([expect.stringMatching(/^mean: loss: expected 2\.397, received 2\.3964\d*$/)]);
  });

  it('fails on an output that the library does not have, and on one that the file does not have', async () => {
    const missing = changed('loss-mse', ({ outputs }) => {
      outputs.perSample = 1;
    });
    expect(await failuresOf(missing)).toEqual(['mean: perSample: missing']);
    const extra = changed('norm-layer-norm', ({ outputs }) => {
      delete outputs.y;
    });
    expect(await failuresOf(extra)).toEqual(['last-axis: y: not expected']);
  });

  it('passes unknown options on to the library', async () => {
    const path = changed('optim-sgd', ({ options }) => {
      options.warmup = 3;
    });
    const allowed = 'learningRate, momentum, dampening, nesterov, weightDecay, weightDecayMask';
    expect(await failuresOf(path)).toEqual([`plain: sgd: unknown option 'warmup'; the options are ${allowed}`]);
  });

  it('fails on an input that it does not know', async () => {
    const path = changed('loss-mse', ({ inputs }) => {
      inputs.mask = { shape: [], data: [1], dtype: 'float32' };
    });
    expect(await failuresOf(path)).toEqual(["mean: golden: the adapter does not know the input 'mask'"]);
  });

  it('counts the cases of a file without adapter as unknown, and a broken file as failed', async () => {
    const path = join(temporary, 'loss-nobody.json');
    writeFileSync(path, JSON.stringify({ cases: [{ id: 'a', outputs: {}, rtol: 0, atol: 0 }] }));
    expect(await runGoldenFile(path, { backend })).toMatchObject({ passed: 0, failed: 0, unknown: 1 });
    writeFileSync(path, '{}');
    expect(await runGoldenFile(path, { backend })).toMatchObject({ passed: 0, failed: 1, unknown: 0 });
  });

  it('takes a list of learning rates as a schedule', async () => {
    const path = changed('optim-sgd', ({ options, inputs, outputs }) => {
      const scalar = (x: number) => ({ shape: [], data: [x], dtype: 'float32' });
      options.learningRate = [1, 0.5];
      Object.assign(inputs, { params: { w: scalar(4), b: scalar(7) }, grads: [{ w: scalar(1) }, { w: scalar(1), b: scalar(2) }] });
      Object.assign(outputs, {
        params: [
          { w: 3, b: 7 },
          { w: scalar(2.5), b: scalar(6) },
        ],
      });
    });
    expect(await failuresOf(path)).toEqual([]);
  });
});

describe('compare', () => {
  const tolerance = { rtol: 1e-4, atol: 1e-6 };
  const failures = (expected: unknown, actual: unknown) => compare(expected, actual, tolerance).failures;

  it.each([
    ['numbers within the tolerance', 2, 2.00019],
    ['small numbers within the absolute tolerance', 0, 9e-7],
    ['NaN and infinities', [Number.NaN, Number.POSITIVE_INFINITY], Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY)],
    ['a number for a scalar array', 3, { shape: [], data: Float32Array.of(3), dtype: 'float32' }],
    ['booleans for numbers', { shape: [2], data: [true, false] }, { shape: [2], data: Uint8Array.of(1, 0), dtype: 'bool' }],
    ['lists of records', [{ a: 1, b: 'left' }], [{ a: 1, b: 'left' }]],
  ])('accepts %s', (_, expected, actual) => expect(failures({ x: expected }, { x: actual })).toEqual([]));

  it.each([
    ['a number outside', 2, 2.0003, 'x: expected 2, received 2.0003'],
    ['a NaN', 2, Number.NaN, 'x: expected 2, received NaN'],
    ['a number for NaN', Number.NaN, 2, 'x: expected NaN, received 2'],
    ['a number for infinity', Number.POSITIVE_INFINITY, 2, 'x: expected Infinity, received 2'],
    ['the other infinity', [0, Number.NEGATIVE_INFINITY], [0, Number.POSITIVE_INFINITY], 'x[1]: expected -Infinity, received Infinity'],
    ['several wrong elements', [1, 2, 3], [1, 5, 6], 'x[1]: expected 2, received 5 (and 1 more of 3)'],
    ['another shape', [1, 2], { shape: [1, 2], data: [1, 2] }, 'x: expected shape [2], received [1, 2] with 2 elements'],
    ['a shorter list', [{ a: 1 }, { a: 2 }], [{ a: 1 }], 'x.1: missing'],
    ['a longer list', [{ a: 1 }], [{ a: 1 }, { a: 2 }], 'x.1: not expected'],
    ['another kind', { a: 1 }, 1, 'x: expected a record, received a value'],
    ['other text', 'left', 'right', 'x: expected "left", received "right"'],
  ])('rejects %s', (_, expected, actual, message) => expect(failures({ x: expected }, { x: actual })).toEqual([message]));

  it('allows no error where the tolerances are 0', () => {
    expect(compare(1, 1 + 1e-15, { rtol: 0, atol: 0 }).failures).toHaveLength(1);
    expect(compare(1, 1, { rtol: 0, atol: 0 })).toEqual({ failures: [], worst: 0 });
  });
});

describe('npm run golden', () => {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const golden = (...args: string[]) =>
    new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      execFile(process.execPath, ['--import', 'tsx', 'scripts/golden.ts', ...args], { cwd: root }, (error, stdout, stderr) =>
        resolve({ code: error?.code ?? 0, stdout, stderr }),
      );
    });

  it('prints the sums last and fails when a case does', async () => {
    changed('loss-mse', ({ outputs }) => {
      outputs.loss.data[0] = 0;
    });
    const [good, bad] = await Promise.all([
      golden('--dir', folder, '--match', 'loss-mse'),
      golden('--dir', temporary, '--match', 'loss-mse'),
    ]);
    expect(good).toMatchObject({ code: 0, stdout: expect.stringMatching(/\n2 passed, 0 failed, 0 unknown\n$/) });
    expect(bad).toMatchObject({ code: 1, stdout: expect.stringMatching(/\n1 passed, 1 failed, 0 unknown\n$/) });
  });

  it.each([
    [['--dir', 'test/golden', '--match', 'nothing'], "no golden file in test/golden has a name that begins with 'nothing'"],
    [['--dir', 'test/golden', '--device', 'wasm'], '--device wasm: not supported yet; use cpu or webgpu'],
  ])('rejects %s', async (args, message) => {
    expect(await golden(...args)).toMatchObject({ code: 1, stderr: expect.stringContaining(message) });
  });
});
