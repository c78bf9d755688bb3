import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runExample } from '../support/example.js';

test('the whole demo reaches its bar in time', { timeout: 180_000 }, async () => {
  const output = mkdtempSync(join(tmpdir(), 'digits-'));
  const start = performance.now();
  const { stdout } = await runExample('digits', '--output', output);
  expect(performance.now() - start).toBeLessThan(90_000);
  const [, accuracy] = stdout.trim().match(/test accuracy (\d+\.\d\d) %$/) ?? [];
  expect(Number(accuracy)).toBeGreaterThanOrEqual(97.5);
  rmSync(output, { recursive: true });
});
