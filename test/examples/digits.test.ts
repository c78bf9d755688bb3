import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cwd, exampleArgs, type Finished, lines, runExample } from '../support/example.js';

/** Runs the demo as `npm run demo` does. */
const demo = (...args: string[]): Promise<Finished> => runExample('digits', ...args);

describe('a quick run', () => {
  const output = mkdtempSync(join(tmpdir(), 'tracegrad-digits-'));
  let run: Finished;
  beforeAll(async () => {
    run = await demo('--quick', '--output', join(output, 'a'));
  });
  afterAll(() => rmSync(output, { recursive: true }));
  const read = (...path: string[]) => readFileSync(join(output, ...path));

  test('succeeds and ends with the test accuracy', () => {
    expect(run).toMatchObject({ code: 0, stderr: '' });
    const [, accuracy] =
      lines(run.stdout)
        .at(-1)!
        .match(/^test accuracy (\d+\.\d\d) %$/) ?? [];
    expect(Number(accuracy)).toBeGreaterThan(80);
  });

  test('prints a line per epoch', () => {
    const pattern = /^epoch [12]\/2 {2}loss \d\.\d{3} {2}accuracy \d+\.\d % {2}test accuracy \d+\.\d % {2}\d+ samples\/s {2}\d+ s left$/;
    expect(lines(run.stdout).filter((line) => pattern.test(line))).toHaveLength(2);
  });

  test('writes a page with curves, confusion matrix and misread digits that needs nothing else', () => {
    const html = read('a', 'report.html').toString();
    expect(html.match(/<h2 [^>]*>[^<]*/g)?.map((heading) => heading.replace(/.*>/, ''))).toEqual([
      'Loss and accuracy',
      'Confusion matrix',
      'Misread digits',
    ]);
    expect(html.match(/<polyline class="(train|test)" points="[\d., ]+"/g)).toHaveLength(4);
    const cells = html.match(/<td class="(none|right|wrong)"[^>]*>\d+/g)!.map((cell) => Number(cell.replace(/.*>/, '')));
    expect(cells).toHaveLength(100);
    expect(cells.reduce((sum, n) => sum + n, 0)).toBe(500);
    expect(html).toMatch(/<svg [^>]*aria-label="A \d that was read as \d"/);
    expect(html).not.toMatch(/<script|<link|<img|(src|href)=|url\(|@import|https?:|NaN|undefined/);
  });

  test('is the same for the same seed', async () => {
    const again = await demo('--quick', '--output', join(output, 'b'));
    expect(lines(again.stdout).at(-1)).toBe(lines(run.stdout).at(-1));
    expect(read('b', 'model.onnx').equals(read('a', 'model.onnx'))).toBe(true);
  });

  describe('that is killed', () => {
    const checkpoint = join(output, 'killed', 'checkpoint.safetensors');

    /** Runs the demo until its first checkpoint is there. */
    async function killed(): Promise<void> {
      const child = spawn(process.execPath, exampleArgs('digits', ['--quick', '--output', join(output, 'killed')]), { cwd });
      const ended = once(child, 'exit');
      while (!existsSync(checkpoint) && child.exitCode === null) await sleep(10);
      child.kill('SIGKILL');
      expect(await ended).toEqual([null, 'SIGKILL']);
    }

    test('goes on to the same model', async () => {
      await killed();
      const rest = await demo('--quick', '--resume', '--output', join(output, 'killed'));
      expect(rest).toMatchObject({ code: 0, stderr: '' });
      expect(lines(rest.stdout).some((line) => line.startsWith('goes on after epoch 1'))).toBe(true);
      expect(lines(rest.stdout).filter((line) => line.startsWith('epoch '))).toHaveLength(1);
      expect(lines(rest.stdout).at(-1)).toBe(lines(run.stdout).at(-1));
      expect(read('killed', 'model.onnx').equals(read('a', 'model.onnx'))).toBe(true);
    });

    test('does not go on as another run', async () => {
      const { code, stderr } = await demo('--quick', '--resume', '--seed', '1', '--output', join(output, 'killed'));
      expect(code).toBe(2);
      expect(stderr).toContain('--resume: the checkpoint is of a run with seed 0, this is 1');
    });
  });
});

test.each([
  { args: ['--resume', '--output', join(tmpdir(), 'tracegrad-nothing')], about: '--resume' },
  { args: ['--device', 'toaster'], about: '--device' },
  { args: ['--epochs', '0'], about: '--epochs' },
  { args: ['--speed', '9'], about: '--speed' },
])('refuses $args in one line', async ({ args, about }) => {
  const { code, stdout, stderr } = await demo(...args);
  expect(code).toBe(2);
  expect(lines(stdout).filter((line) => line.startsWith('epoch'))).toEqual([]);
  expect(lines(stderr)).toHaveLength(1);
  expect(stderr).toContain(about);
});
