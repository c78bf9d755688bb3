import { describe, expect, it } from 'vitest';
import { add, array, matmul, type NDArray, square, sub, sum, type Tensor } from '../../src/index.js';
import { accumulatedGradients, adamw, perturbedGradients, sgd, transform } from '../../src/optim/index.js';
import { createTrainer } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { testDevices } from '../support/test-devices.js';
import { type Batch, bytesOf, everything, initial, plainGradient, regression, rows, weightsOf } from './fixtures.js';

const onlyHead = (name: string) => name.startsWith('head');
type Params = { body: { w: Tensor }; head: [Tensor, Tensor]; frozen: Tensor };
/** -0 and a number below the smallest normal one: a copy that is computed may change them. */
const params = () => ({
  body: { w: array([[0.1], [-0], [1e-40]]) },
  head: [array([[0.5]]), array([0.25])] as [NDArray, NDArray],
  frozen: array([3]),
});
const predict = (p: Params, x: Tensor) => add(add(matmul(matmul(x, p.body.w), p.head[0]), p.head[1]), p.frozen);
const loss = (p: Params, b: Batch) => sum(square(sub(predict(p, b.x), b.y)));

describe.each(await testDevices())('trainable (%s)', (_, backend) => {
  it.each([
    ['a plain gradient', undefined],
    ['micro-batches', accumulatedGradients({ parts: 2 })],
    ['perturbed gradients', perturbedGradients()],
  ])('keeps the bytes of the others, which have no optimizer state: %s', async (_what, gradients) => {
    const optimizer = adamw({ learningRate: 0.1, weightDecay: 0.5 });
    await using trainer = await createTrainer(backend, {
      loss,
      predict,
      params: params(),
      optimizer,
      trainable: onlyHead,
      ...(gradients ? { gradients } : {}),
    });
    for (let step = 0; step < 3; step++) await trainer.step(rows(0, 8));
    const after = await trainer.params();
    const before = params();
    expect(bytesOf([after.body, after.frozen])).toBe(bytesOf([before.body, before.frozen]));
    expect(after.head[0]).not.toEqual(before.head[0]);
    expect(after.head[1]).not.toEqual(before.head[1]);
    expect(Object.keys(await trainer.optimizerState()).sort()).toEqual(['m.head.0', 'm.head.1', 'step', 'v.head.0', 'v.head.1']);
    expect(Object.keys((await trainer.snapshot()).params)).toEqual(['body.w', 'head.0', 'head.1', 'frozen']);
    // The loss of the next step is that of the parameters that were returned.
    const again = await createTrainer(backend, { loss, params: after, optimizer: sgd({ learningRate: 0 }) });
    expect((await trainer.evaluate(rows(0, 8))).loss).toBeCloseTo((await again.evaluate(rows(0, 8))).loss, 5);
    await again.close();
  });

  it('leaves the gradients of the trained ones as they are', async () => {
    await using trainer = await regression(backend, { trainable: (name, shape) => name === 'w' && shape.length === 2 });
    let weights = weightsOf(initial());
    for (let step = 0; step < 3; step++) {
      const { gradient, loss: expected } = plainGradient(weights);
      expect((await trainer.step(rows(0, 16))).loss).toBeCloseTo(expected, 5);
      weights = weights.map((w, i) => (i < 3 ? w - 0.1 * gradient[i]! : w));
    }
    expectClose('weights', weightsOf(await trainer.params()), weights, 1e-5);
  });

  it('shows the optimizer the trained ones only', async () => {
    const seen: object[] = [];
    const watching = transform('watching', {
      init: (all) => {
        seen.push(Object.keys(all));
        return {};
      },
      update: (updates, _state, all) => {
        seen.push([Object.keys(updates), Object.keys(all)]);
        return { updates };
      },
    });
    await using trainer = await createTrainer(backend, {
      loss,
      params: params(),
      optimizer: watching,
      trainable: (name) => name === 'head.1',
      axes: null,
    });
    await trainer.step(rows(0, 8));
    // The update may be traced more than once.
    expect(seen.length).toBeGreaterThan(1);
    expect(seen[0]).toEqual(['head.1']);
    for (const update of seen.slice(1)) expect(update).toEqual([['head.1'], ['head.1']]);
  });

  it('sees names and shapes', async () => {
    const seen: unknown[] = [];
    const trainable = (name: string, shape: readonly number[]) => seen.push([name, shape]) > 0;
    await using trainer = await createTrainer(backend, { loss, params: params(), optimizer: sgd({ learningRate: 0 }), trainable });
    expect(seen).toEqual([
      ['body.w', [3, 1]],
      ['head.0', [1, 1]],
      ['head.1', [1]],
      ['frozen', [1]],
    ]);
    expect(trainer.steps).toBe(0);
  });

  it('must leave parameters that the loss depends on', async () => {
    const trainable = (name: string) => name === 'b';
    await using trainer = await regression(backend, { trainable, loss: (p, b) => sum(square(sub(matmul(b.x, p.w), b.y))) });
    const before = await everything(trainer);
    await expect(trainer.step(rows(0, 4))).rejects.toThrow('trainer.step: the loss depends on no parameter that is trained');
    expect(await everything(trainer)).toBe(before);
  });

  it.each<[string, unknown, string]>([
    ['a list', ['w'], "createTrainer: trainable: expected a function, received ['w']"],
    ['nothing', () => false, 'createTrainer: trainable leaves no parameter to train; there are w, b'],
    [
      'a failing function',
      () => {
        throw new Error('which ones?');
      },
      'which ones?',
    ],
  ])('is a function that selects something, not %s', async (_what, trainable, message) => {
    await expect(regression(backend, { trainable: trainable as () => boolean })).rejects.toThrow(message);
  });
});
