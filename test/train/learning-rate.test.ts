import { describe, expect, it } from 'vitest';
import { adamw, chain, type Optimizer, scaleByLearningRate, sgd, trace } from '../../src/optim/index.js';
import { expectClose } from '../support/close.js';
import { testDevices } from '../support/test-devices.js';
import { everything, initial, plainGradient, regression, rows, weightsOf } from './fixtures.js';

const start = weightsOf(initial());
/** Plain SGD with these rates. */
const descend = (rates: readonly number[]) =>
  rates.reduce((weights, rate) => {
    const { gradient } = plainGradient(weights);
    return weights.map((w, i) => w - rate * gradient[i]!);
  }, start);

describe.each(await testDevices())('trainer.learningRate (%s)', (_, backend) => {
  it.each<[string, Optimizer, number[]]>([
    ['a number', sgd({ learningRate: 0.25 }), [0.25, 0.25, 0.25]],
    ['a schedule', sgd({ learningRate: (step) => 1 / (step + 2) }), [1 / 2, 1 / 3, 1 / 4]],
    ['inside a chain', chain(chain(trace({ decay: 0 }), scaleByLearningRate(0.5))), [0.5, 0.5, 0.5]],
    ['of adamw', adamw({ learningRate: 0.125 }), [0.125, 0.125, 0.125]],
  ])('is that of the next step: %s', async (_what, optimizer, rates) => {
    await using trainer = await regression(backend, { optimizer });
    for (const rate of rates) {
      expect(trainer.learningRate).toBe(rate);
      await trainer.step(rows(0, 16));
    }
  });

  it('can be set for a while', async () => {
    await using trainer = await regression(backend, { optimizer: sgd({ learningRate: (step) => 0.1 / (step + 1) }) });
    await trainer.step(rows(0, 16));
    trainer.learningRate = 0.3;
    expect(trainer.learningRate).toBe(0.3);
    await trainer.step(rows(0, 16));
    await trainer.step(rows(0, 16));
    expect(trainer.learningRate).toBe(0.3);
    trainer.learningRate = 0;
    await trainer.step(rows(0, 16));
    expectClose('weights', weightsOf(await trainer.params()), descend([0.1, 0.3, 0.3]), 1e-5);
    trainer.learningRate = undefined;
    expect(trainer.learningRate).toBe(0.1 / 5);
    await trainer.step(rows(0, 16));
    expectClose('weights', weightsOf(await trainer.params()), descend([0.1, 0.3, 0.3, 0.02]), 1e-5);
  });

  it('does not matter to steps that were made', async () => {
    await using trainer = await regression(backend, { optimizer: sgd({ learningRate: 0.1 }) });
    await trainer.step(rows(0, 16));
    const [before, snapshot] = [await trainer.params(), await trainer.snapshot()];
    expect('learningRate' in snapshot).toBe(false);
    trainer.learningRate = 5;
    expect(await trainer.params()).toEqual(before);
    expect((await trainer.snapshot()).learningRate).toBe(5);
  });

  it('scales decoupled weight decay as well', async () => {
    const optimizer = (learningRate: number) => adamw({ learningRate, weightDecay: 0.5 });
    await using trainer = await regression(backend, { optimizer: optimizer(1) });
    await using twin = await regression(backend, { optimizer: optimizer(0.125) });
    trainer.learningRate = 0.125;
    for (let step = 0; step < 2; step++) await Promise.all([trainer, twin].map((one) => one.step(rows(0, 16))));
    expectClose('weights', weightsOf(await trainer.params()), weightsOf(await twin.params()), 1e-6);
  });

  it.each<[string, Optimizer, number]>([
    ['none', chain(trace({ decay: 0.5 })), -1],
    ['two', chain(scaleByLearningRate(0.5), scaleByLearningRate(0.5)), -0.25],
    ['two inside a chain', chain(chain(scaleByLearningRate(0.5), scaleByLearningRate(0.5)), trace({ decay: 0 })), -0.25],
  ])('is undefined, and cannot be set, where the optimizer has %s', async (_what, optimizer, factor) => {
    await using trainer = await regression(backend, { optimizer });
    expect(trainer.learningRate).toBe(undefined);
    expect(() => {
      trainer.learningRate = 0.1;
    }).toThrow('trainer.learningRate: the optimizer has no single learning rate to replace');
    await trainer.step(rows(0, 16));
    expectClose('weights', weightsOf(await trainer.params()), descend([factor]), 1e-5); // two signs make one ascent
  });

  it('leaves those of a chain with several as they are', async () => {
    const both = chain(scaleByLearningRate(0.5), scaleByLearningRate(0.25));
    await using trainer = await regression(backend, { optimizer: chain(both, scaleByLearningRate(0.4)) });
    await trainer.step(rows(0, 16));
    expectClose('weights', weightsOf(await trainer.params()), descend([0.5 * 0.25 * 0.4]), 1e-5);
  });

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY, '0.1' as never, null as never])('refuses %s', async (rate) => {
    await using trainer = await regression(backend);
    const before = await everything(trainer);
    expect(() => {
      trainer.learningRate = rate;
    }).toThrow('trainer.learningRate: learningRate: expected a number >= 0 or undefined, received');
    expect(trainer.learningRate).toBe(0.1);
    expect(await everything(trainer)).toBe(before);
  });
});
