import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const program = fileURLToPath(new URL('./memory-child.ts', import.meta.url));

/** Resident memory of a process that runs a training step at `sizes` lengths of a named axis, the longest included. */
async function memoryOf(sizes: number): Promise<{ before: number; after: number }> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--import', 'tsx', program, `${sizes}`, '1']);
  return JSON.parse(stdout);
}

describe('a compiled function with a named axis', () => {
  // With a session per size, 60 sizes take six times the growth of one and more than twice its memory in all.
  it('called at 60 sizes stays under twice the memory of one', async () => {
    const one = await memoryOf(1);
    const many = await memoryOf(60);
    expect(one.after - one.before).toBeGreaterThan(20e6);
    expect(many.after).toBeLessThan(2 * one.after);
    expect(many.after - many.before).toBeLessThan(2 * (one.after - one.before));
  });
});
