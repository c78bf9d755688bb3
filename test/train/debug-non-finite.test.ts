import { describe, expect, it } from 'vitest';
import {
  add,
  array,
  div,
  exp,
  greater,
  hostInput,
  log,
  matmul,
  mul,
  reshape,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  where,
} from '../../src/index.js';
import { accumulatedGradients, adam, halfGradients, perturbedGradients } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { testDevices } from '../support/test-devices.js';
import { type Batch, everything, initial, loss, type Params, type RegressionOptions, regression, rows } from './fixtures.js';

const notFinite = 'the loss or its gradients are not finite; the first is';
const withNaN = () => {
  const bad = rows(0, 4);
  bad.x.data[5] = Number.NaN;
  return bad;
};

describe.each(await testDevices())('debugNonFinite (%s)', (device, backend) => {
  const debugged = (options: Partial<RegressionOptions> = {}) =>
    regression(backend, { debugNonFinite: true, optimizer: adam({ learningRate: 0.1 }), ...options });

  const cases: [string, (p: Params, b: Batch) => Tensor, string][] = [
    ['the logarithm of a negative number', (p, b) => add(loss(p, b), sum(log(sub(b.y, 100)))), 'log(sub) float32[4, 1]: 4 of its elements'],
    ['0/0', (p, b) => mul(loss(p, b), sum(exp(div(sub(p.b, p.b), sub(b.y, b.y))))), 'div(sub, sub) float32[4, 1]: 4 of its elements'],
    ['a sum too large', (p, b) => add(loss(p, b), sum(exp(mul(p.b, 1e3)))), 'exp(mul) float32[1]: 1 of its elements'],
    ['a gradient alone', (p, b) => add(loss(p, b), sum(sqrt(sub(p.b, p.b)))), 'float32[1], in the gradient: 1 of its elements'],
  ];
  // What the logarithm of a negative number is, WGSL leaves open.
  const defined = cases.filter(([what]) => device === 'cpu' || !what.includes('logarithm'));
  it.each(defined)('names %s', async (_what, bad, message) => {
    let broken = false;
    const options: Partial<RegressionOptions> = { loss: (p, b) => (broken ? bad(p, b) : loss(p, b)), axes: null };
    await using trainer = await debugged(options);
    await using twin = await debugged(options);
    for (const one of [trainer, twin]) await one.step(rows(0, 6));
    const before = await everything(trainer);
    broken = true; // traced anew for another size
    const error = await trainer.step(rows(0, 4)).catch((reason: Error) => reason.message);
    expect(error).toContain(`trainer.step: step 1: ${notFinite}`);
    expect(error).toContain(message);
    expect(await everything(trainer)).toBe(before);
    for (const one of [trainer, twin]) await one.step(rows(0, 6));
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('names a parameter or an array of the batch', async () => {
    const params = () => ({ ...initial(), b: array([Number.NaN]) });
    await using broken = await debugged({ params: params() });
    await expect(broken.step(rows(0, 4))).rejects.toThrow(`step 0: ${notFinite} params.b float32[1]: 1 of its elements`);
    await using frozen = await debugged({ params: params(), trainable: (name) => name === 'w' });
    await expect(frozen.step(rows(0, 4))).rejects.toThrow(`${notFinite} params.b float32[1]: 1 of its elements`);
    await using trainer = await debugged();
    await using twin = await debugged();
    for (let step = 0; step < 2; step++) {
      await expect(trainer.step(withNaN())).rejects.toThrow(`step ${step}: ${notFinite} batch.x float32[4, 3]: 1 of its elements`);
      await trainer.step(rows(0, 4));
      await twin.step(rows(0, 4));
    }
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('names model state, and keeps it as it was', async () => {
    const running = (p: { w: Tensor }, x: Tensor, { state }: LossContext<{ mean: Tensor }>) => ({
      loss: sum(mul(p.w, mul(x, state.mean))),
      state: { mean: add(mul(state.mean, 0.5), sum(x)) },
    });
    const make = (mean: number) =>
      createTrainer(backend, {
        loss: running,
        params: { w: array([1]) },
        state: { mean: array(mean) },
        optimizer: adam(),
        debugNonFinite: true,
      });
    await using broken = await make(Number.POSITIVE_INFINITY);
    await expect(broken.step(array([1]))).rejects.toThrow(`${notFinite} state.mean float32[]: 1 of its elements`);
    await using trainer = await make(2);
    await trainer.step(array([3]));
    const before = await everything(trainer);
    await expect(trainer.step(array([Number.NaN]))).rejects.toThrow(`${notFinite} batch float32[1]`);
    expect(await everything(trainer)).toBe(before);
  });

  it.each([
    ['micro-batches', accumulatedGradients({ parts: 2 })],
    ['two halves', halfGradients()],
    ['perturbed gradients', perturbedGradients()],
  ])('looks at %s', async (_what, gradients) => {
    await using trainer = await debugged({ gradients });
    await trainer.step(rows(0, 4));
    const before = await everything(trainer);
    await expect(trainer.step(withNaN())).rejects.toThrow(`${notFinite} batch.x float32[4, 3]`);
    expect(await everything(trainer)).toBe(before);
    await trainer.step(rows(0, 4));
    expect(trainer.steps).toBe(2);
  });

  it('does not take the infinity of a mask for the fault', async () => {
    // Attention to some rows: the scores of the others are -Infinity.
    const attended = (p: Params, b: Batch) => {
      const scores = where(greater(reshape(b.y, [4]), -1e3), matmul(b.x, reshape(p.w, [3])), Number.NEGATIVE_INFINITY);
      return sum(mul(add(softmax(scores), 0), add(reshape(sqrt(square(b.y)), [4]), p.b)));
    };
    await using trainer = await debugged({ loss: attended, axes: null });
    const masked = { ...rows(0, 4), y: array([[1], [-1e4], [2], [3]]) };
    await trainer.step(masked);
    const before = await everything(trainer);
    const zero = { ...masked, y: array([[1], [-1e4], [2], [Number.NaN]]) };
    await expect(trainer.step(zero)).rejects.toThrow(`${notFinite} batch.y float32[4, 1]: 1 of its elements`);
    expect(await everything(trainer)).toBe(before);
    if (device !== 'cpu') return; // where all scores are -Infinity, softmax is 0 on WebGPU
    const none = { ...masked, y: array([[-1e4], [-1e4], [-1e4], [-1e4]]) };
    await expect(trainer.step(none)).rejects.toThrow(`${notFinite} where(greater, reshape, scalar) float32[4]: 4 of its elements`);
  });

  it('looks at the draws of the step', async () => {
    const draws: string[] = [];
    const drawn = (name: string, dtype: 'bool' | 'float32') =>
      hostInput(
        ({ rng }) => {
          const values = Array.from({ length: 64 }, () => (dtype === 'bool' ? rng.int(2) : rng.normal()));
          draws.push(`${name}: ${values}`);
          return values;
        },
        { shape: [64], dtype },
      );
    // The mask is no float: it is not looked at itself, so it is met later than in the step.
    const noisy = (p: Params) => sum(mul(p.b, exp(mul(where(drawn('mask', 'bool'), drawn('noise', 'float32'), 0), 1e5))));
    await using trainer = await debugged({ loss: noisy, seed: 5 });
    await expect(trainer.step(rows(0, 4))).rejects.toThrow(`${notFinite} exp(mul) float32[64]`);
    expect(draws).toHaveLength(4);
    expect(draws.slice(2).sort()).toEqual(draws.slice(0, 2).sort());
  });

  it('changes nothing where all is finite', async () => {
    await using trainer = await debugged();
    await using twin = await debugged({ debugNonFinite: false });
    for (let step = 0; step < 3; step++) expect(await trainer.step(rows(0, 5))).toEqual(await twin.step(rows(0, 5)));
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('is off by default: what is not finite goes on', async () => {
    await using trainer = await regression(backend);
    expect((await trainer.step(withNaN())).loss).toBe(Number.NaN);
    expect([...(await trainer.params()).b.data]).toEqual([Number.NaN]);
    expect(trainer.steps).toBe(1);
    expect((await trainer.step(rows(0, 4))).loss).toBe(Number.NaN);
    const predicted = await trainer.predict(rows(0, 4).x);
    expect(predicted.data.every(Number.isNaN)).toBe(true);
  });

  it('is true or false', async () => {
    await expect(debugged({ debugNonFinite: 1 as never })).rejects.toThrow(
      'createTrainer: debugNonFinite: expected true or false, received 1',
    );
  });
});
