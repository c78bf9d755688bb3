import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Backend, createRng, foldIn, keyFromSeed, maxPool2d, relu, reshape, type Tensor, type Tensors } from '../../src/index.js';
import { conv2d, dropout, initConv2d, initLinear, linear, normal } from '../../src/layers/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { initLayerNorm, layerNorm } from '../../src/norm/index.js';
import { accumulatedGradients, adamw } from '../../src/optim/index.js';
import { createTrainer, load, save } from '../../src/train/index.js';
import { everything } from './fixtures.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu', threads: 2 });
});
afterAll(() => backend.close());

const init = () => {
  const rng = createRng(1);
  return {
    conv: initConv2d(rng, 1, 16, 3),
    norm: initLayerNorm([16, 14, 14]),
    deep: initConv2d(rng, 16, 16, 3),
    out: initLinear(rng, 16 * 7 * 7, 10),
  };
};
type Params = Tensors<ReturnType<typeof init>>;

// Large enough for two threads, with whatever could make a run depend on how it was started: dropout, a schedule, other sizes.
const start = () =>
  createTrainer(backend, {
    params: init(),
    optimizer: adamw({ learningRate: (step) => 0.01 / (1 + step) }),
    gradients: accumulatedGradients({ parts: 2 }),
    loss: (p: Params, { x, y }: { x: Tensor; y: Tensor }) => {
      const first = layerNorm(maxPool2d(relu(conv2d(x, p.conv, { padding: 'same' })), { kernelSize: 2 }), p.norm, { axis: 1 });
      const second = maxPool2d(relu(conv2d(dropout(first, { rate: 0.2 }), p.deep, { padding: 'same' })), { kernelSize: 2 });
      return crossEntropyLoss(linear(reshape(second, [x.shape[0]!, -1]), p.out), y);
    },
  });

/** The batch of a step depends on nothing but its number; some are smaller. */
function batchOf(step: number) {
  const rng = createRng(foldIn(keyFromSeed(2), step));
  const rows = step % 4 === 3 ? 10 : 24;
  const y = Int32Array.from({ length: rows }, () => rng.int(10));
  return { x: normal(rng, [rows, 1, 28, 28]), y: { data: y, shape: [rows] } };
}

const STEPS = 12;

it('a run that is killed at any of 20 random steps goes on from its checkpoint to the same bits', { timeout: 120_000 }, async () => {
  await using whole = await start();
  const checkpoints: Uint8Array[] = [];
  while (whole.steps < STEPS) {
    checkpoints.push(await save(whole, { extra: { seen: whole.steps } }));
    await whole.step(batchOf(whole.steps));
  }
  const end = await everything(whole);
  const rng = createRng(3);
  for (let kill = 0; kill < 20; kill++) {
    const at = rng.int(STEPS);
    await using resumed = await start();
    expect(await load(resumed, checkpoints[at]!)).toEqual({ seen: at });
    while (resumed.steps < STEPS) await resumed.step(batchOf(resumed.steps));
    expect(await everything(resumed)).toBe(end);
  }
});
