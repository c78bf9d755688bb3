import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runExample, tables } from '../support/example.js';

test.each([
  { name: 'micro-batch', effects: 4, rows: [8, 8, 3] },
  { name: 'only-batchnorm', effects: 2, rows: [4, 4] },
])('the whole of $name shows its effects with three seeds', async ({ name, effects, rows }) => {
  const output = mkdtempSync(join(tmpdir(), `${name}-`));
  const { code, stdout, stderr } = await runExample(name, '--output', output);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.match(/^as expected: /gm)).toHaveLength(effects);
  expect(tables(stdout).map((table) => Object.keys(table.rows).length)).toEqual(rows);
  rmSync(output, { recursive: true });
});
