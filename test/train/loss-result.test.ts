import { describe, expect, it } from 'vitest';
import { cast, mul, square, sub, sum, toNumbers } from '../../src/index.js';
import { expectClose } from '../support/close.js';
import { testDevices } from '../support/test-devices.js';
import {
  type Batch,
  bytesOf,
  everything,
  initial,
  loss,
  type Params,
  plainGradient,
  predict,
  regression,
  rows,
  squaredErrors,
  weightsOf,
} from './fixtures.js';

describe.each(await testDevices())('what a loss function returns (%s)', (_, backend) => {
  it('may have a value per sample, of any rank', async () => {
    const withMatrix = (p: Params, b: Batch) => ({ loss: loss(p, b), perSample: mul(b.x, predict(p, b.x)) });
    await using matrix = await regression(backend, { loss: withMatrix });
    await using vector = await regression(backend, { loss: (p, b) => ({ loss: loss(p, b), perSample: squaredErrors(p, b) }) });
    await using none = await regression(backend);
    const weights = weightsOf(initial());
    for (const count of [5, 3]) {
      const { x } = rows(0, count);
      const expected = Array.from({ length: count }, (_v, i) => plainGradient(weights, i, i + 1).loss);
      const evaluated = await vector.evaluate(rows(0, count));
      expect(evaluated.perSample).toMatchObject({ shape: [count], dtype: 'float32' });
      expectClose('per sample', toNumbers(evaluated.perSample!), expected, 1e-4);
      const predictions = toNumbers(await vector.predict(x));
      const found = await matrix.evaluate(rows(0, count));
      expect(found.perSample!.shape).toEqual([count, 3]);
      expectClose(
        'per sample',
        toNumbers(found.perSample!),
        toNumbers(x).map((v, i) => v * predictions[Math.floor(i / 3)]!),
        1e-4,
      );
    }
    const [one, other, third] = [await vector.step(rows(0, 5)), await matrix.step(rows(0, 5)), await none.step(rows(0, 5))];
    expect([one.perSample!.shape, other.perSample!.shape]).toEqual([[5], [5, 3]]);
    expect('perSample' in third).toBe(false);
    // They have no part in the gradient.
    expectClose('weights', weightsOf(await vector.params()), weightsOf(await none.params()), 1e-6);
    // They are the caller's.
    const before = bytesOf(await vector.params());
    one.perSample!.data.fill(7);
    await vector.step(rows(0, 5));
    expect(toNumbers(one.perSample!)).toEqual(Array(5).fill(7));
    expect(bytesOf(await vector.params())).not.toBe(before);
  });

  it.each<[string, (p: Params, b: Batch) => object, string]>([
    [
      'per sample: a scalar',
      (p, b) => ({ perSample: sum(squaredErrors(p, b)) }),
      'perSample: expected a float Tensor whose first axis is the 4 rows of the batch, received float32[]',
    ],
    [
      'per sample: other rows',
      (p) => ({ perSample: square(p.w) }),
      'perSample: expected a float Tensor whose first axis is the 4 rows of the batch, received float32[3, 1]',
    ],
    ['per sample: integers', (p, b) => ({ perSample: cast(squaredErrors(p, b), 'int32') }), 'perSample: expected a float Tensor'],
    ['per sample: numbers', () => ({ perSample: [1, 2, 3, 4] }), 'perSample: expected a Tensor, received [1, 2, 3, 4]'],
    ['weight: a vector', (p, b) => ({ weight: squaredErrors(p, b) }), 'weight: expected a scalar (shape []), received float32[4]'],
    ['weight: a number', () => ({ weight: 4 }), 'weight: expected a Tensor, received 4'],
  ])('is checked: %s', async (_what, more, message) => {
    await using trainer = await regression(backend, { loss: (p, b) => ({ loss: loss(p, b), ...more(p, b) }) as never });
    const before = await everything(trainer);
    await expect(trainer.step(rows(0, 4))).rejects.toThrow(`trainer.step: ${message}`);
    await expect(trainer.evaluate(rows(0, 4))).rejects.toThrow(`trainer.evaluate: ${message}`);
    expect(await everything(trainer)).toBe(before);
  });

  it('may have a weight, which changes no step of the whole batch', async () => {
    const weighted = (p: Params, b: Batch) => ({
      loss: loss(p, b),
      metrics: { bias: sum(p.b) },
      weight: cast(sum(square(sub(b.y, 1))), 'int32'),
    });
    await using trainer = await regression(backend, { loss: weighted });
    await using plain = await regression(backend);
    for (let step = 0; step < 2; step++) {
      const found = await trainer.step(rows(0, 16));
      expect(found.loss).toBeCloseTo((await plain.step(rows(0, 16))).loss, 5);
      if (step === 0) expect(found.metrics.bias).toBeCloseTo(0.5, 6);
    }
    expectClose('weights', weightsOf(await trainer.params()), weightsOf(await plain.params()), 1e-6);
  });

  it('knows whether it is trained', async () => {
    const seen: [string, boolean, string[]][] = [];
    let doing = '';
    const looking = (p: Params, b: Batch, context: { training: boolean }) => {
      seen.push([doing, context.training, Object.keys(context)]);
      return loss(p, b);
    };
    await using trainer = await regression(backend, { loss: looking, axes: null });
    doing = 'step';
    await trainer.step(rows(0, 4));
    doing = 'evaluate';
    await trainer.evaluate(rows(0, 4));
    expect(seen).toEqual([
      ['step', true, ['training', 'state']],
      ['evaluate', false, ['training', 'state']],
    ]);
  });
});
