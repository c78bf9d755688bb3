import { describe, expect, it } from 'vitest';
import { array, createRng, div, mul, type Rng, sum, type Tensor, toNumbers } from '../../src/index.js';
import { initLinear, linear } from '../../src/layers/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { accumulatedGradients, adam } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { countSessions } from '../support/sessions.js';
import { testDevices } from '../support/test-devices.js';
import { type Batch, everything, loss, type Params, regression, rows, squaredErrors, weightsOf } from './fixtures.js';

/** The mean over the rows that the mask leaves; the values per sample do not look at it. */
const masked = (p: Params, b: Batch, { mask }: LossContext) => {
  const errors = squaredErrors(p, b);
  const total = mask ? sum(mul(errors, mask)) : sum(errors);
  return {
    loss: div(total, mask ? sum(mask) : b.x.shape[0]!),
    perSample: errors,
    metrics: { sumOfY: { sums: sum(b.y, { axis: 0 }), compute: ([s]: readonly number[]) => s! } },
  };
};

describe.each(await testDevices())('padTo (%s)', (_, backend) => {
  it('gives the update of the batch without padding', async () => {
    const options = () => ({ loss: masked, optimizer: adam({ learningRate: 0.1 }) });
    await using padded = await regression(backend, { ...options(), padTo: 6 });
    await using plain = await regression(backend, options());
    const sessions = countSessions(backend);
    let ofFirst = 0;
    for (const count of [6, 4, 1, 5]) {
      const found = await padded.step(rows(0, count));
      ofFirst ||= sessions.created;
      expect(sessions.created).toBe(ofFirst);
      const created = sessions.created;
      const expected = await plain.step(rows(0, count));
      ofFirst += sessions.created - created;
      expect(found.loss).toBeCloseTo(expected.loss, 5);
      expect(found.metrics.sumOfY).toBeCloseTo(expected.metrics.sumOfY!, 5);
      expect(found.perSample!.shape).toEqual([count]);
      expectClose('perSample', toNumbers(found.perSample!), toNumbers(expected.perSample!), 1e-4);
    }
    expectClose('weights', weightsOf(await padded.params()), weightsOf(await plain.params()), 1e-4);
  });

  it('holds for evaluations', async () => {
    await using padded = await regression(backend, { loss: masked, padTo: 6 });
    await using plain = await regression(backend, { loss: masked });
    const [found, expected] = [await padded.evaluate(rows(0, 4)), await plain.evaluate(rows(0, 4))];
    expect(found.loss).toBeCloseTo(expected.loss, 5);
    expect(found.perSample!.shape).toEqual([4]);
    const parts = [rows(0, 6), rows(6, 12), rows(12, 16)];
    expect((await padded.evaluateAll(parts)).loss).toBeCloseTo((await plain.evaluate(rows(0, 16))).loss, 5);
  });

  it('goes with micro-batches, some of which may be nothing but padding', async () => {
    await using padded = await regression(backend, { loss: masked, padTo: 6, gradients: accumulatedGradients({ parts: 3 }) });
    await using plain = await regression(backend, { loss: masked });
    for (const count of [6, 5, 2]) {
      const [found, expected] = [await padded.step(rows(0, count)), await plain.step(rows(0, count))];
      expect(found.loss).toBeCloseTo(expected.loss, 5);
      expectClose('perSample', toNumbers(found.perSample!), toNumbers(expected.perSample!), 1e-4);
    }
    expectClose('weights', weightsOf(await padded.params()), weightsOf(await plain.params()), 1e-4);
  });

  it('gives the loss a mask of float32 rows, and zeros as padding', async () => {
    const seen: unknown[] = [];
    const looking = (p: Params, b: Batch, context: LossContext) => {
      seen.push([context.mask?.shape, context.mask?.dtype, b.x.shape]);
      return { ...masked(p, b, context), metrics: { rows: sum(context.mask!), x: sum(b.x), y: sum(b.y) } };
    };
    await using trainer = await regression(backend, { loss: looking, padTo: 4, axes: null });
    const { x, y } = rows(0, 3);
    const { metrics } = await trainer.step({ x, y });
    expect(seen).toEqual([[[4], 'float32', [4, 3]]]);
    const total = (values: number[]) => values.reduce((a, v) => a + v, 0);
    expectClose('metrics', [metrics.rows!, metrics.x!, metrics.y!], [3, total(toNumbers(x)), total(toNumbers(y))], 1e-5);
  });

  it('pads int32 labels with 0', async () => {
    const rng: Rng = createRng(1);
    const params = initLinear(rng, 3, 4);
    const classify = (p: { weight: Tensor; bias: Tensor }, b: { x: Tensor; label: Tensor }, { mask }: LossContext) => {
      const each = crossEntropyLoss(linear(b.x, p), b.label, { reduction: 'none' });
      return { loss: mask ? div(sum(mul(each, mask)), sum(mask)) : div(sum(each), b.x.shape[0]!), metrics: { labels: sum(b.label) } };
    };
    const options = () => ({ loss: classify, params, optimizer: adam({ learningRate: 0.1 }) });
    await using padded = await createTrainer(backend, { ...options(), padTo: 8 });
    await using plain = await createTrainer(backend, options());
    const batch = { x: rows(0, 5).x, label: array([3, 1, 2, 0, 3], { dtype: 'int32' }) };
    const [found, expected] = [await padded.step(batch), await plain.step(batch)];
    expect(found.loss).toBeCloseTo(expected.loss, 5);
    expect(found.metrics.labels).toBe(9);
    const [one, other] = [await padded.params(), await plain.params()];
    expectClose('weight', toNumbers(one.weight!), toNumbers(other.weight!), 1e-4);
    // Labels are still checked, and counted in the batch that was given.
    const wrong = { ...batch, label: array([3, 1, 2, 0, 4], { dtype: 'int32' }) };
    await expect(padded.step(wrong)).rejects.toThrow('received 4 at index 4');
  });

  it.each([
    ['ignores the mask', (p: Params, b: Batch) => loss(p, b)],
    [
      'uses the mask elsewhere',
      (p: Params, b: Batch, { mask }: LossContext) => ({ loss: loss(p, b), metrics: { rows: sum(mask!) }, weight: sum(mask!) }),
    ],
  ])('refuses a loss that %s', async (_what, ignoring) => {
    await using trainer = await regression(backend, { loss: ignoring, padTo: 4 });
    const before = await everything(trainer);
    const message = 'with padTo the loss must leave out the rows where context.mask is 0, and it does not use the mask';
    await expect(trainer.step(rows(0, 4))).rejects.toThrow(`trainer.step: ${message}`);
    await expect(trainer.evaluate(rows(0, 4))).rejects.toThrow(`trainer.evaluate: ${message}`);
    expect(await everything(trainer)).toBe(before);
  });

  it('refuses batches that it cannot pad', async () => {
    await using trainer = await regression(backend, { loss: masked, padTo: 4 });
    const before = await everything(trainer);
    await expect(trainer.step(rows(0, 5))).rejects.toThrow('trainer.step: batch: expected at most 4 rows, as padTo says, received 5');
    await expect(trainer.evaluateAll([rows(0, 4), rows(0, 5)])).rejects.toThrow('trainer.evaluateAll: batch: expected at most 4 rows');
    const message = 'trainer.step: padTo needs a batch whose arrays have the rows as their first axis';
    await expect(trainer.step({ ...rows(0, 4), y: rows(0, 3).y })).rejects.toThrow(message);
    await expect(trainer.step({ ...rows(0, 4), y: array(1) })).rejects.toThrow(message);
    expect(await everything(trainer)).toBe(before);
    for (const padTo of [0, 1.5, '4' as never])
      await expect(regression(backend, { padTo })).rejects.toThrow('createTrainer: padTo: expected a positive integer');
  });
});
