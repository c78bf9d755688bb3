import { expect, test } from 'vitest';
import { array, createRng, type Tensor, type Tensors } from '../../src/index.js';
import { initLinear, linear } from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { adam } from '../../src/optim/index.js';
import { createTrainer } from '../../src/train/index.js';

test('memory stays flat over 20,000 steps of changing batch sizes', { timeout: 300_000 }, async () => {
  await using backend = await createBackend({ device: 'cpu' });
  const rng = createRng(1);
  const params = { up: initLinear(rng, 64, 256), down: initLinear(rng, 256, 1) };
  const loss = (p: Tensors<typeof params>, { x, y }: { x: Tensor; y: Tensor }) => mseLoss(linear(linear(x, p.up), p.down), y);
  await using trainer = await createTrainer(backend, { loss, params, optimizer: adam() });
  const run = async (steps: number) => {
    for (let i = 0; i < steps; i++) {
      const n = 2 + rng.int(30);
      const draw = (length: number) => Float32Array.from({ length }, rng.normal);
      const report = await trainer.step({ x: array(draw(64 * n), { shape: [n, 64] }), y: array(draw(n), { shape: [n, 1] }) });
      expect(Number.isFinite(report.loss)).toBe(true);
    }
    return process.memoryUsage().rss;
  };
  const before = await run(2_000);
  expect((await run(18_000)) - before).toBeLessThan(100e6);
});
