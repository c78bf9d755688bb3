import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Finished, lines, runExample, tables } from '../support/example.js';

interface Experiment {
  readonly name: string;
  readonly effects: number;
  /** The rows of every table, and how many numbers they have. */
  readonly rows: Readonly<Record<string, readonly string[]>>;
  readonly columns: number;
}

const experiments: readonly Experiment[] = [
  {
    name: 'micro-batch',
    effects: 4,
    rows: { 'batch 1': ['BN', 'WS + GN', 'WS + BCN 0.1'], 'batch 2, narrow, high rate': ['GN', 'BCN 0.1'] },
    columns: 2,
  },
  { name: 'only-batchnorm', effects: 1, rows: { '14 layers': ['only batch norm', 'random weights'] }, columns: 3 },
];

describe.each(experiments)('a quick run of $name', ({ name, effects, rows, columns }) => {
  const output = mkdtempSync(join(tmpdir(), `tracegrad-${name}-`));
  let run: Finished;
  beforeAll(async () => {
    run = await runExample(name, '--quick', '--output', output);
  });
  afterAll(() => rmSync(output, { recursive: true }));

  test('shows the effects', () => {
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(lines(run.stdout).filter((line) => line.startsWith('as expected: '))).toHaveLength(effects);
  });

  test('prints its tables', () => {
    const found = tables(run.stdout);
    expect(Object.fromEntries(found.map((table) => [table.title, Object.keys(table.rows)]))).toEqual(rows);
    const numbers = found.flatMap((table) => Object.values(table.rows));
    expect(numbers.every((row) => row.length === columns && row.every(Number.isFinite))).toBe(true);
  });

  test('draws them', () => {
    const svg = readFileSync(join(output, `${name}.svg`), 'utf8');
    for (const [title, methods] of Object.entries(rows)) for (const text of [title, ...methods]) expect(svg).toContain(`>${text}</text>`);
    expect(svg).not.toMatch(/NaN|undefined/);
  });
});

test.each([
  { args: ['--seeds', '0'], about: '--seeds: expected an integer >= 1' },
  { args: ['--speed', '9'], about: '--speed' },
])('refuses $args in one line', async ({ args, about }) => {
  const { code, stdout, stderr } = await runExample('micro-batch', ...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(lines(stderr)).toEqual([expect.stringMatching(`^micro-batch: .*${about}`)]);
});

test('tells its options', async () => {
  const { code, stdout } = await runExample('only-batchnorm', '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^npm run example:only-batchnorm (.|\n)*--quick(.|\n)*--seeds(.|\n)*--output/);
});
