import { describe, expect, it } from 'vitest';
import { array, type Backend, type NDArray, type Tensor, type Tensors, toNumbers } from '../../src/index.js';
import { linear } from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { batchNorm, initBatchNorm } from '../../src/norm/index.js';
import { sgd } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { normalArray, normals } from '../support/numeric.js';
import { countSessions } from '../support/sessions.js';
import { testDevices } from '../support/test-devices.js';
import { average, channelOf, type Moments, moments, normalized, towards, transformed, unbiased } from './reference.js';

const { params: norm, state } = initBatchNorm(3);
const initial = () => ({ norm, head: { weight: normalArray(1, [1, 3]), bias: array([0.5]) } });
type Params = Tensors<ReturnType<typeof initial>>;
type State = Tensors<typeof state>;
type Batch = { x: Tensor; y: Tensor };

/** A normalization of the data and a linear layer, so that running statistics are those of the data. */
function forward(p: Params, x: Tensor, { training, state: running }: LossContext<State>) {
  const normal = batchNorm(x, p.norm, running, { mode: training ? 'train' : 'eval' });
  return { predictions: linear(normal.y, p.head), state: normal.state };
}
const regression = (backend: Backend) =>
  createTrainer(backend, {
    params: initial(),
    state,
    optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }),
    predict: (p: Params, x: Tensor, context: LossContext<State>) => forward(p, x, context).predictions,
    loss: (p: Params, { x, y }: Batch, context: LossContext<State>) => {
      const { predictions, state: next } = forward(p, x, context);
      return { loss: mseLoss(predictions, y), state: next };
    },
  });

/** Batch number `seed`, of numbers far from mean 0 and variance 1. */
const batchOf = (seed: number, rows: number) => ({
  x: array(
    normals(seed, 3 * rows).map((v) => Math.fround(5 + 2 * v)),
    { shape: [rows, 3] },
  ),
  y: normalArray(100 + seed, [rows, 1]),
});

/** The model in float64. */
function predictions(
  p: { norm: typeof norm; head: { weight: NDArray; bias: NDArray } },
  x: NDArray,
  by: Pick<Moments, 'mean' | 'variance'>,
): number[] {
  const channel = channelOf(x.shape);
  const params = { weight: toNumbers(p.norm.weight), bias: toNumbers(p.norm.bias) };
  const normal = transformed(normalized(toNumbers(x), channel, by, 1e-5), channel, params);
  const [weight, [bias]] = [toNumbers(p.head.weight), toNumbers(p.head.bias)];
  return Array.from({ length: x.shape[0] as number }, (_, i) => weight.reduce((total, w, c) => total + w * normal[3 * i + c]!, bias!));
}

const meanSquare = (values: readonly number[], y: NDArray) => average(values.map((v, i) => (v - y.data[i]!) ** 2));

// The last batch of an epoch is smaller.
const sizes = [8, 8, 5, 8, 8, 5];

describe.each(await testDevices())('a network with batch normalization on %s', (_, backend) => {
  it('trains by batches, and predicts by running statistics', async () => {
    const sessions = countSessions(backend);
    await using trainer = await regression(backend);
    let [mean, variance] = [
      [0, 0, 0],
      [1, 1, 1],
    ];
    let beforeSmaller = 0;
    for (const [step, rows] of sizes.entries()) {
      const batch = batchOf(step, rows);
      const stats = moments(toNumbers(batch.x), channelOf(batch.x.shape));
      const expected = meanSquare(predictions(await trainer.params(), batch.x, stats), batch.y);
      expect((await trainer.step(batch)).loss).toBeCloseTo(expected, 4);
      mean = towards(mean, stats.mean, 0.1);
      variance = towards(variance, unbiased(stats), 0.1);
      if (step === 1) beforeSmaller = sessions.created;
    }
    expect(sessions.created).toBe(beforeSmaller);
    const { runningMean, runningVar, numBatchesTracked } = await trainer.state();
    expectClose('mean', toNumbers(runningMean), mean, 1e-5);
    expectClose('variance', toNumbers(runningVar), variance, 1e-5);
    expect(toNumbers(numBatchesTracked)).toEqual([6]);

    const test = batchOf(20, 7);
    const expected = predictions(await trainer.params(), test.x, { mean, variance });
    expectClose('predictions', toNumbers(await trainer.predict(test.x)), expected, 1e-4);
    expect((await trainer.evaluate(test)).loss).toBeCloseTo(meanSquare(expected, test.y), 4);
    // Statistics of a batch of one sample are not needed.
    const one = batchOf(21, 1);
    expect(toNumbers(await trainer.predict(one.x))[0]).toBeCloseTo(predictions(await trainer.params(), one.x, { mean, variance })[0]!, 4);
    expect((await trainer.state()).runningMean).toEqual(runningMean);

    await using predictor = await trainer.predictor();
    await trainer.step(batchOf(22, 8));
    expectClose('predictor', toNumbers(await predictor(test.x)), expected, 1e-4);
  });

  it('refuses a batch of one sample, and goes on', async () => {
    await using trainer = await regression(backend);
    await expect(trainer.step(batchOf(0, 1))).rejects.toThrow(
      'batchNorm: x: expected more than one value per channel in a batch that is normalised by its own statistics, received float32[1, 3]',
    );
    await trainer.step(batchOf(0, 8));
    expect(toNumbers((await trainer.state()).numBatchesTracked)).toEqual([1]);
  });

  it('goes on from a snapshot as if nothing had happened', async () => {
    await using trainer = await regression(backend);
    for (const [step, rows] of sizes.slice(0, 3).entries()) await trainer.step(batchOf(step, rows));
    const snapshot = await trainer.snapshot();
    await using other = await regression(backend);
    await other.restore(snapshot);
    expect(await other.state()).toEqual(await trainer.state());
    for (const each of [trainer, other]) for (const step of [3, 4]) await each.step(batchOf(step, sizes[step]!));
    expect(await other.snapshot()).toEqual(await trainer.snapshot());
    expect(await other.evaluate(batchOf(9, 4))).toEqual(await trainer.evaluate(batchOf(9, 4)));
    expect(await other.state()).not.toEqual(snapshot.state);
  });
});
