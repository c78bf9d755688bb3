import { describe, expect, test } from 'vitest';
import { workloads } from '../../bench/workloads.js';
import { array, type Backend, createRng, type Tensor, type Tensors } from '../../src/index.js';
import { initLinear, linear } from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { adam } from '../../src/optim/index.js';
import { createTrainer } from '../../src/train/index.js';
import { webgpuBackend } from '../support/devices.js';

const MB = 1e6;

/** Resident memory, after what nobody needs any more was freed. */
async function resident(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return process.memoryUsage.rss();
}

/** By how much memory grows in the last nine tenths of `times` runs. */
async function growth(times: number, run: (index: number) => Promise<void>): Promise<number> {
  let before = 0;
  for (let i = 0; i < times; i++) {
    if (i === times / 10) before = await resident();
    await run(i);
  }
  const grown = (await resident()) - before;
  console.log(`${times} runs: ${(before / MB).toFixed(0)} MB, and ${(grown / MB).toFixed(1)} MB more at the end`);
  return grown;
}

describe.each(['cpu', 'webgpu'] as const)('on %s', (device) => {
  const open = (): Promise<Backend | undefined> => (device === 'cpu' ? createBackend({ device }) : webgpuBackend());

  test('memory stays flat over 10,000 steps of W1', { timeout: 45 * 60_000 }, async ({ skip }) => {
    await using backend = await open();
    if (!backend) return skip('no device');
    const running = await (workloads.W1_mlp as NonNullable<typeof workloads.W1_mlp>)(backend);
    expect(await growth(10_000, async () => void (await running.step()))).toBeLessThan(50 * MB);
    await running.close();
  });

  test('100 trainers in a row give their memory back', { timeout: 45 * 60_000 }, async ({ skip }) => {
    await using backend = await open();
    if (!backend) return skip('no device');
    const W1 = workloads.W1_mlp as NonNullable<typeof workloads.W1_mlp>;
    const grown = await growth(100, async () => {
      const running = await W1(backend);
      for (let step = 0; step < 3; step++) await running.step();
      await running.close();
    });
    expect(grown).toBeLessThan(100 * MB);
  });
});

test('memory stays flat over 20,000 steps of changing batch sizes', { timeout: 300_000 }, async () => {
  await using backend = await createBackend({ device: 'cpu' });
  const rng = createRng(1);
  const params = { up: initLinear(rng, 64, 256), down: initLinear(rng, 256, 1) };
  const loss = (p: Tensors<typeof params>, { x, y }: { x: Tensor; y: Tensor }) => mseLoss(linear(linear(x, p.up), p.down), y);
  await using trainer = await createTrainer(backend, { loss, params, optimizer: adam() });
  const grown = await growth(20_000, async () => {
    const n = 2 + rng.int(30);
    const draw = (length: number) => Float32Array.from({ length }, rng.normal);
    const report = await trainer.step({ x: array(draw(64 * n), { shape: [n, 64] }), y: array(draw(n), { shape: [n, 1] }) });
    expect(Number.isFinite(report.loss)).toBe(true);
  });
  expect(grown).toBeLessThan(100 * MB);
});
