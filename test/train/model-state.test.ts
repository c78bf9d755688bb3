import { describe, expect, it } from 'vitest';
import {
  add,
  array,
  type Backend,
  cast,
  greater,
  mean,
  mul,
  type NDArray,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  type Tensors,
  toNumbers,
} from '../../src/index.js';
import { accumulatedGradients, type GradientStrategy, perturbedGradients, sgd } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { testDevices } from '../support/test-devices.js';
import { everything } from './fixtures.js';

// A weight for what deviates from a running mean, which moves half of the way to the mean of the batch.
const state = () => ({
  seen: { mean: array([1]), count: array(3, { dtype: 'int32' }) },
  positive: array(0, { dtype: 'bool' }),
  fixed: array([7]),
});
type State = Tensors<ReturnType<typeof state>>;
type Params = { w: Tensor };
const deviation = (p: Params, x: Tensor, { state: s }: LossContext<State>) => mul(p.w, sub(x, s.seen.mean));
const loss = (p: Params, x: Tensor, context: LossContext<State>) => {
  const { seen } = context.state;
  return {
    loss: mean(square(deviation(p, x, context))),
    state: {
      seen: { mean: mul(add(seen.mean, mean(x)), 0.5), count: add(seen.count, x.shape[0]!) },
      positive: greater(mean(x), 0),
      fixed: context.state.fixed,
    },
  };
};
const runningMean = (backend: Backend, gradients?: GradientStrategy) =>
  createTrainer(backend, {
    loss,
    predict: deviation,
    params: { w: array([0.5]) },
    state: state(),
    optimizer: sgd({ learningRate: 0.1 }),
    ...(gradients ? { gradients } : {}),
  });

/** The same in plain JavaScript: a step on some numbers. */
function plainStep(before: { w: number; mean: number }, parts: readonly (readonly number[])[]) {
  let { mean: running } = before;
  let [total, gradient] = [0, 0];
  const count = parts.flat().length;
  for (const part of parts) {
    total += part.reduce((sum, x) => sum + (before.w * (x - running)) ** 2, 0) / count;
    gradient += part.reduce((sum, x) => sum + 2 * before.w * (x - running) ** 2, 0) / count;
    running = (running + part.reduce((sum, x) => sum + x, 0) / part.length) / 2;
  }
  return { loss: total, w: before.w - 0.1 * gradient, mean: running };
}

describe.each(await testDevices())('model state (%s)', (_, backend) => {
  it('goes from step to step', async () => {
    await using trainer = await runningMean(backend);
    expect(await trainer.state()).toEqual(state());
    let expected = { w: 0.5, mean: 1, loss: 0 };
    for (const [i, batch] of [
      [1, 2],
      [-3, 0.5],
      [2, -1],
    ]
      .map((pair) => pair as [number, number])
      .entries()) {
      expected = plainStep(expected, [batch]);
      expect((await trainer.step(array(batch))).loss).toBeCloseTo(expected.loss, 5);
      const after = await trainer.state();
      expect(after.seen.mean.data[0]).toBeCloseTo(expected.mean, 6);
      expect(after.seen.count).toEqual(array(3 + 2 * (i + 1), { dtype: 'int32' }));
      expect(toNumbers(after.positive)).toEqual([Number(batch[0] + batch[1] > 0)]);
      expect(after.fixed).toEqual(array([7]));
      expect((await trainer.params()).w.data[0]).toBeCloseTo(expected.w, 6);
    }
  });

  it('goes from part to part of a batch', async () => {
    await using trainer = await runningMean(backend, accumulatedGradients({ parts: 3 }));
    let expected = { w: 0.5, mean: 1, loss: 0 };
    for (const [a, b, c, d, e] of [
      [1, 2, 3, 4, 5],
      [-1, 3, 0.5, 2, 7],
    ] as [number, number, number, number, number][]) {
      expected = plainStep(expected, [[a], [b, c], [d, e]]);
      expect((await trainer.step(array([a, b, c, d, e]))).loss).toBeCloseTo(expected.loss, 4);
    }
    const { seen } = await trainer.state();
    expect(seen.mean.data[0]).toBeCloseTo(expected.mean, 5);
    expect(seen.count.data[0]).toBe(13);
    expect((await trainer.params()).w.data[0]).toBeCloseTo(expected.w, 5);
  });

  it('is that of the evaluation that counts', async () => {
    await using trainer = await runningMean(backend, perturbedGradients());
    await trainer.step(array([1, 2]));
    const { seen } = await trainer.state();
    expect([...seen.mean.data, ...seen.count.data]).toEqual([1.25, 5]);
  });

  it('is seen, but not changed, by evaluate and predict', async () => {
    await using trainer = await runningMean(backend);
    await trainer.step(array([1, 2]));
    const before = await everything(trainer);
    const { w } = await trainer.params();
    const deviations = [4 - 1.25, -2 - 1.25].map((d) => d * toNumbers(w)[0]!);
    expectClose('predictions', toNumbers(await trainer.predict(array([4, -2]))), deviations, 1e-6);
    const expected = deviations.reduce((total, d) => total + d * d, 0) / 2;
    expect((await trainer.evaluate(array([4, -2]))).loss).toBeCloseTo(expected, 4);
    expect((await trainer.evaluateAll([array([4, -2]), array([4, -2])])).loss).toBeCloseTo(expected, 4);
    expect(await everything(trainer)).toBe(before);
  });

  it('is copied, in and out', async () => {
    const mine = state();
    await using trainer = await createTrainer(backend, {
      loss,
      params: { w: array([0.5]) },
      state: mine,
      optimizer: sgd({ learningRate: 0.1 }),
    });
    mine.seen.mean.data.fill(100);
    (await trainer.state()).seen.mean.data.fill(100);
    await trainer.step(array([1, 2]));
    (await trainer.state()).seen.mean.data.fill(100);
    expect((await trainer.state()).seen.mean.data[0]).toBe(1.25);
  });

  it('may be moved around, and be made of parameters', async () => {
    const params = { w: array([3]) };
    const swap = (p: Params, x: Tensor, { state: s }: LossContext<Record<'a' | 'b' | 'c' | 'd' | 'w', Tensor>>) => ({
      loss: sum(mul(p.w, x)),
      state: { a: s.b, b: s.a, c: sum(x), d: sum(x), w: stopGradient(p.w) },
    });
    const [a, b, c, d] = [array([1]), array([2]), array(0), array(0)];
    await using trainer = await createTrainer(backend, {
      loss: swap,
      params,
      state: { a, b, c, d, w: array([0]) },
      optimizer: sgd({ learningRate: 1 }),
    });
    const after: number[][] = [];
    for (let step = 0; step < 3; step++) {
      await trainer.step(array([step + 1]));
      after.push(Object.values(await trainer.state()).flatMap(toNumbers));
    }
    expect(after).toEqual([
      [2, 1, 1, 1, 3],
      [1, 2, 2, 2, 2],
      [2, 1, 3, 3, 0],
    ]);
  });

  it('may be one array, or be returned in part', async () => {
    const options = { params: { w: array([1]) }, optimizer: sgd({ learningRate: 0.1 }) };
    await using single = await createTrainer(backend, {
      ...options,
      loss: (p: Params, x: Tensor, { state: s }: LossContext<Tensor>) => ({ loss: sum(mul(p.w, x)), state: add(s, 1) }),
      state: array(5),
    });
    await single.step(array([1]));
    expect(await single.state()).toEqual(array(6));
    await using partial = await createTrainer(backend, {
      ...options,
      loss: (p: Params, x: Tensor, { state: s }: LossContext<{ a: Tensor; b: Tensor }>) => ({
        loss: sum(mul(p.w, x)),
        state: { a: add(s.a, 1) } as typeof s,
      }),
      state: { a: array(1), b: array(2) },
    });
    await partial.step(array([1]));
    expect(await partial.state()).toEqual({ a: array(2), b: array(2) });
  });

  it.each<[string, (s: { a: Tensor }) => unknown, string]>([
    ['is unknown', (s) => ({ ...s, b: s.a }), "trainer.step: the loss function returned state 'b', which is not in the option state"],
    [
      'has another shape',
      ({ a }) => ({ a: sum(a) }),
      'trainer.step: state a after the step: expected float32[2], as before it, received float32[]',
    ],
    [
      'has another dtype',
      ({ a }) => ({ a: cast(a, 'int32') }),
      'trainer.step: state a after the step: expected float32[2], as before it, received int32[2]',
    ],
    ['is no Tensor', () => ({ a: 3 }), 'trainer.step: a: expected a Tensor, received 3'],
  ])('fails the step if it %s', async (_what, next, message) => {
    const given: Record<string, NDArray> = { a: array([1, 2]) };
    await using trainer = await createTrainer(backend, {
      loss: (p: Params, x: Tensor, { state: s }: LossContext<{ a: Tensor }>) => ({ loss: sum(mul(p.w, x)), state: next(s) as typeof s }),
      params: { w: array([1]) },
      state: given as { a: NDArray },
      optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }),
    });
    const before = await everything(trainer);
    await expect(trainer.step(array([1]))).rejects.toThrow(message);
    expect(await everything(trainer)).toBe(before);
  });

  it('is a tree of arrays', async () => {
    const options = { loss: (p: Params, x: Tensor) => sum(mul(p.w, x)), params: { w: array([1]) }, optimizer: sgd({ learningRate: 0.1 }) };
    await expect(createTrainer(backend, { ...options, state: { mean: 0 } as never })).rejects.toThrow(
      'createTrainer: state.mean: expected an array { data, shape } or a tree of arrays',
    );
  });
});
