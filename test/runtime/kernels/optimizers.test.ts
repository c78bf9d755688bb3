import { afterAll, describe, it } from 'vitest';
import { add, array, type NDArray, type Shape, type Tensor, toNumbers } from '../../../src/index.js';
import { createBackend } from '../../../src/node.js';
import {
  adam,
  adamw,
  addDecayedWeights,
  chain,
  type Named,
  type Optimizer,
  scaleByAdam,
  scaleByLearningRate,
  sgd,
  trace,
} from '../../../src/optim/index.js';
import { expectLikeOnnx, optimizerStep } from '../../support/kernels.js';
import { normalArray } from '../../support/numeric.js';
import { run } from '../../support/run.js';

const backend = await createBackend({ device: 'cpu' });
afterAll(() => backend.close());

/** Sizes around those of vectors, of what a loop does at once, and of the interpreter's blocks; and numbers. */
const shapes: Record<string, Shape> = {
  scale: [],
  one: [1, 1],
  three: [3],
  four: [2, 2],
  five: [5],
  eleven: [11],
  large: [11, 93],
  larger: [17, 241],
  none: [0, 2],
};
const names = Object.keys(shapes);

const learningRate = 0.05;
const decays = (name: string) => name !== 'five' && name !== 'scale';
const optimizers: Record<string, Optimizer> = {
  sgd: sgd({ learningRate }),
  'sgd with a schedule': sgd({ learningRate: (step) => 0.1 / (1 + step) }),
  'sgd with momentum and decay': sgd({ learningRate, momentum: 0.9, weightDecay: 0.1 }),
  'sgd with dampening': sgd({ learningRate, momentum: 0.9, dampening: 0.3 }),
  'sgd with Nesterov momentum, a mask and a schedule': sgd({
    learningRate: (step) => 0.05 * 0.9 ** step,
    momentum: 0.8,
    nesterov: true,
    weightDecay: 0.1,
    weightDecayMask: decays,
  }),
  adam: adam(),
  'adam with coupled decay': adam({ learningRate, weightDecay: 0.3 }),
  'adam without memory': adam({ learningRate, beta1: 0, beta2: 0, eps: 0.1 }),
  'adam with amsgrad': adam({ learningRate, beta2: 0.8, amsgrad: true }),
  adamw: adamw(),
  'adamw with a mask': adamw({ learningRate, weightDecay: 0.3, weightDecayMask: decays }),
  'adamw with amsgrad and a schedule': adamw({ learningRate: (step) => 0.1 / (1 + step), amsgrad: true, weightDecay: 0 }),
  'a chain': chain(
    trace({ decay: 0.5 }),
    scaleByAdam({ beta2: 0.9 }),
    trace({ decay: 0.25 }),
    addDecayedWeights({ weightDecay: 0.1, mask: { three: false } }),
    scaleByLearningRate((step) => 0.01 * (step + 1)),
  ),
};

const drawn = (seed: number, prefix = ''): Record<string, NDArray> =>
  Object.fromEntries(names.map((name, i) => [prefix + name, normalArray(seed + i, shapes[name]!)]));

const initialState = (optimizer: Optimizer, params: Record<string, NDArray>) => run(backend, (p: Named) => optimizer.init(p), params);

describe('20 steps by kernels are those by ONNX Runtime:', () => {
  it.each(Object.entries(optimizers))('%s', async (_, optimizer) => {
    const params = drawn(100);
    const arrays = { ...params, ...(await initialState(optimizer, params)), ...drawn(1000, 'grad.') };
    await expectLikeOnnx(backend, arrays, optimizerStep(optimizer, names), { feed: (t) => drawn(1000 + 20 * t, 'grad.'), steps: 20 });
  });
});

describe('parameters', () => {
  it('without a gradient stay as they are, with their state', async () => {
    const optimizer = adamw({ learningRate });
    const params = drawn(100);
    const { 'grad.four': _, 'grad.scale': __, ...grads } = drawn(1000, 'grad.');
    const state = await initialState(optimizer, params);
    const arrays = { ...params, ...state, 'm.four': normalArray(5, [2, 2]), 'm.scale': normalArray(6, []), ...grads };
    await expectLikeOnnx(backend, arrays, optimizerStep(optimizer, names));
  });

  it('of float16 may be there if they do not change', async () => {
    const half = array(toNumbers(normalArray(1, [5])), { dtype: 'float16' });
    await expectLikeOnnx(backend, { half, w: normalArray(2, [5]) }, ({ half, w }) => ({
      next: { half: half as Tensor, w: add(w as Tensor, 1) },
    }));
  });
});
