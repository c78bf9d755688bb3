import { describe, expect, it } from 'vitest';
import { array, div, greater, mul, type NDArray, ones, square, sub, sum, type Tensor, toNumbers, where } from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import {
  accumulatedGradients,
  adam,
  chain,
  type GradientStrategy,
  halfGradients,
  type Named,
  type Optimizer,
  perturbedGradients,
  plainGradients,
  scaleByLearningRate,
  sgd,
  transform,
} from '../../src/optim/index.js';
import { slot } from '../../src/optim/transform.js';
import type { OrtBackend } from '../../src/runtime/backend.js';
import { createTrainer } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { countSessions } from '../support/sessions.js';
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
  type RegressionOptions,
  regression,
  rows,
  squaredErrors,
  weightsOf,
} from './fixtures.js';

const devices = await testDevices();
const start = weightsOf(initial());

describe.each(devices)('accumulatedGradients (%s)', (_, backend) => {
  const withMore = (p: Params, b: Batch) => ({ loss: loss(p, b), metrics: { total: sum(b.y) }, perSample: squaredErrors(p, b) });

  it.each([
    [16, 4],
    [7, 3],
    [5, 5],
    [6, 1],
  ])('equals the whole batch: %i rows in %i parts', async (count, parts) => {
    const options = { loss: withMore, optimizer: adam({ learningRate: 0.1 }) };
    await using whole = await regression(backend, options);
    await using cut = await regression(backend, { ...options, gradients: accumulatedGradients({ parts }) });
    for (let step = 0; step < 3; step++) {
      const [expected, found] = [await whole.step(rows(0, count)), await cut.step(rows(0, count))];
      expect(found.loss).toBeCloseTo(expected.loss, 5);
      expectClose('perSample', found.perSample!.data, expected.perSample!.data, 1e-4);
    }
    expectClose('weights', weightsOf(await cut.params()), weightsOf(await whole.params()), 1e-5);
  });

  it('serves batches of other sizes', async () => {
    await using whole = await regression(backend);
    await using cut = await regression(backend, { gradients: accumulatedGradients({ parts: 2 }) });
    for (const count of [16, 8, 5, 2, 11]) {
      expect((await cut.step(rows(0, count))).loss).toBeCloseTo((await whole.step(rows(0, count))).loss, 5);
    }
    expectClose('weights', weightsOf(await cut.params()), weightsOf(await whole.params()), 1e-5);
  });

  it('averages metrics by the weight of the parts', async () => {
    const withMetrics = (p: Params, b: Batch) => ({
      loss: loss(p, b),
      metrics: {
        mean: div(sum(b.y), b.y.shape[0]!),
        total: { sums: sum(b.y, { axis: 0 }), compute: ([total]: readonly number[]) => total! },
      },
    });
    await using cut = await regression(backend, { loss: withMetrics, gradients: accumulatedGradients({ parts: 3 }) });
    const { metrics } = await cut.step(rows(0, 7));
    const total = toNumbers(rows(0, 7).y).reduce((a, v) => a + v, 0);
    expect(metrics.total).toBeCloseTo(total, 5);
    expect(metrics.mean).toBeCloseTo(total / 7, 5);
  });

  // A mean over some of the rows: parts hold different numbers of them.
  type Selected = { x: Tensor; y: Tensor; selected: Tensor };
  const select = (selected: number[]) => ({ ...rows(0, selected.length), selected: array(selected) });
  const selectedLoss =
    (guarded: boolean) =>
    (p: Params, { selected, ...b }: Selected) => {
      const weight = sum(selected);
      const total = sum(mul(squaredErrors(p, b), selected));
      const some = greater(weight, 0);
      return { loss: guarded ? where(some, div(total, where(some, weight, 1)), 0) : div(total, weight), weight };
    };
  const selecting = (gradients: GradientStrategy, guarded = true) =>
    createTrainer(backend, { loss: selectedLoss(guarded), params: initial(), optimizer: sgd({ learningRate: 0.1 }), gradients });

  it.each([true, false])('weighs parts by what the loss is the mean of, those of weight 0 not at all (guarded: %s)', async (guarded) => {
    await using whole = await selecting(plainGradients);
    await using cut = await selecting(accumulatedGradients({ parts: 3 }), guarded);
    for (const selected of [
      [1, 0, 1, 1, 1, 1, 0],
      [0, 0, 1, 0, 1, 1, 1],
    ]) {
      expect((await cut.step(select(selected))).loss).toBeCloseTo((await whole.step(select(selected))).loss, 5);
    }
    expectClose('weights', weightsOf(await cut.params()), weightsOf(await whole.params()), 1e-5);
  });

  it('has gradient 0 where all weights are 0', async () => {
    await using cut = await selecting(accumulatedGradients({ parts: 2 }));
    expect((await cut.step(select([0, 0, 0, 0]))).loss).toBe(0);
    expect(weightsOf(await cut.params())).toEqual(start);
  });

  it('refuses batches that it cannot cut', async () => {
    await using cut = await regression(backend, { gradients: accumulatedGradients({ parts: 3 }) });
    const before = await everything(cut);
    await expect(cut.step(rows(0, 2))).rejects.toThrow(
      'trainer.step: batch: expected at least 3 rows, as many as the gradient strategy cuts it into, received 2',
    );
    expect(await everything(cut)).toBe(before);
    await using uneven = await createTrainer(backend, {
      loss: (p: { w: Tensor }, b: { a: Tensor; scale: Tensor }) => mul(sum(mul(b.a, p.w)), b.scale),
      params: { w: array([1]) },
      optimizer: sgd({ learningRate: 0.1 }),
      gradients: accumulatedGradients({ parts: 2 }),
    });
    await expect(uneven.step({ a: array([1, 2]), scale: array(1) })).rejects.toThrow(
      "trainer.step: a batch is cut along the axis called 'batch' in axes, and there is none",
    );
  });

  it('leaves arrays without that axis whole', async () => {
    await using trainer = await createTrainer(backend, {
      loss: (p: { w: Tensor }, b: { a: Tensor; scale: Tensor }) => mul(sum(mul(b.a, p.w)), b.scale),
      params: { w: array([1]) },
      optimizer: sgd({ learningRate: 1 }),
      gradients: accumulatedGradients({ parts: 2 }),
      axes: { a: ['batch'] },
    });
    const { loss: found } = await trainer.step({ a: array([1, 2, 3, 4]), scale: array(0.5) });
    expect(found).toBe((0.5 * (1 + 2) + 0.5 * (3 + 4)) / 2);
    expect(await trainer.params()).toEqual({ w: array([1 - 2.5]) });
  });
});

/** SGD that keeps the further gradients it was given, and how often. */
function keeping(names: readonly string[], gradients?: GradientStrategy): Optimizer {
  return transform('keeping', {
    ...(gradients ? { gradients } : {}),
    learningRates: [() => 0.1],
    slots: names,
    init: (params) => Object.assign({}, ...names.map((name) => slot(name, zerosOf(params)))),
    update: (updates, _state, _params, extra) => ({
      updates: mapValues(updates, (u) => mul(u, -0.1)),
      state: Object.assign({}, ...names.map((name) => slot(name, extra.gradients?.[name] ?? {}))),
    }),
  });
}
const mapValues = (named: Named, fn: (tensor: Tensor) => Tensor): Named =>
  Object.fromEntries(Object.entries(named).map(([name, tensor]) => [name, fn(tensor)]));
const zerosOf = (params: Named): Named => mapValues(params, (p) => mul(ones(p.shape), 0));

describe.each(devices)('halfGradients (%s)', (_, backend) => {
  it.each([16, 7])('gives the gradients of both halves of %i rows to the update, in the steps it is told', async (count) => {
    const when = (step: number) => step % 3 !== 1;
    await using trainer = await regression(backend, { optimizer: keeping(['first', 'second']), gradients: halfGradients({ when }) });
    const middle = Math.floor(count / 2);
    let [weights, first, second] = [start, [0, 0, 0, 0], [0, 0, 0, 0]];
    for (let step = 0; step < 6; step++) {
      const expected = plainGradient(weights, 0, count);
      if (when(step)) [first, second] = [plainGradient(weights, 0, middle).gradient, plainGradient(weights, middle, count).gradient];
      weights = weights.map((w, i) => w - 0.1 * expected.gradient[i]!);
      expect((await trainer.step(rows(0, count))).loss).toBeCloseTo(expected.loss, 5);
      const state = await trainer.optimizerState();
      expectClose(`first, step ${step}`, weightsOf(state, 'first.'), first, 1e-5);
      expectClose(`second, step ${step}`, weightsOf(state, 'second.'), second, 1e-5);
      expectClose(`weights, step ${step}`, weightsOf(await trainer.params()), weights, 1e-5);
    }
  });

  it('refuses a batch of one row', async () => {
    await using trainer = await regression(backend, { gradients: halfGradients() });
    await expect(trainer.step(rows(0, 1))).rejects.toThrow('trainer.step: batch: expected at least 2 rows');
  });
});

/** One step of SGD with the gradient at the perturbed weights, in float64. */
function plainSharpnessAware(weights: readonly number[], rho: number, adaptive: boolean): number[] {
  const { gradient } = plainGradient(weights);
  const scaled = gradient.map((g, i) => (adaptive ? Math.abs(weights[i]!) * g : g));
  const length = Math.hypot(...scaled);
  const moved = weights.map((w, i) => w + (rho / length) * scaled[i]! * (adaptive ? Math.abs(w) : 1));
  const at = plainGradient(moved).gradient;
  return weights.map((w, i) => w - 0.1 * at[i]!);
}

describe.each(devices)('perturbedGradients (%s)', (_, backend) => {
  it.each([
    ['SAM', 0.5, false],
    ['SAM, by default', 0.05, undefined],
    ['ASAM', 2, true],
    ['no perturbation', 0, false],
  ] as const)('equals a loop in plain JavaScript: %s', async (name, rho, adaptive) => {
    const gradients = perturbedGradients(adaptive === undefined ? {} : { rho, adaptive });
    await using trainer = await regression(backend, { gradients });
    let weights = start;
    for (let step = 0; step < 5; step++) {
      expect((await trainer.step(rows(0, 16))).loss).toBeCloseTo(plainGradient(weights).loss, 5);
      weights = plainSharpnessAware(weights, rho, adaptive ?? false);
    }
    expectClose(name, weightsOf(await trainer.params()), weights, 1e-5);
  });

  it('moves nothing where the gradient is 0', async () => {
    const params = { w: array([[0], [0], [0]]), b: array([0]) };
    for (const adaptive of [false, true]) {
      await using trainer = await regression(backend, { params, gradients: perturbedGradients({ rho: 1, adaptive }) });
      const { x } = rows(0, 4);
      expect((await trainer.step({ x, y: array([[0], [0], [0], [0]]) })).loss).toBe(0);
      expect(weightsOf(await trainer.params())).toEqual([0, 0, 0, 0]);
    }
  });
});

describe.each(devices)('gradient strategies (%s)', (_, backend) => {
  it('are brought along by an optimizer, also inside a chain', async () => {
    const strategy = perturbedGradients({ rho: 1 });
    const bringing = transform('bringing', { gradients: strategy, update: (updates) => ({ updates }) });
    await using given = await regression(backend, { gradients: strategy });
    await using brought = await regression(backend, { optimizer: chain(bringing, scaleByLearningRate(0.1)) });
    await using plain = await regression(backend, { gradients: plainGradients });
    for (const trainer of [given, brought, plain]) await trainer.step(rows(0, 16));
    expectClose('brought', weightsOf(await brought.params()), weightsOf(await given.params()), 1e-6);
    expect(bytesOf(await plain.params())).not.toBe(bytesOf(await given.params()));
    // The plain strategy is the default.
    await using default_ = await regression(backend);
    await default_.step(rows(0, 16));
    expect(bytesOf(await default_.params())).toBe(bytesOf(await plain.params()));
  });

  it('report metrics of their own', async () => {
    const gradients: GradientStrategy = {
      gradients: (evaluate) => {
        const found = evaluate();
        return { ...found, metrics: { size: sum(square(found.gradients.w!)), weight: found.weight } };
      },
    };
    const own = (p: Params, b: Batch) => ({ loss: loss(p, b), metrics: { bias: sum(p.b) } });
    await using trainer = await regression(backend, { loss: own, gradients });
    const { metrics } = await trainer.step(rows(0, 8));
    const size = plainGradient(start, 0, 8)
      .gradient.slice(0, 3)
      .reduce((total, g) => total + g * g, 0);
    expect(metrics).toEqual({ bias: 0.5, size: expect.closeTo(size, 4), weight: 8 });
    expect((await trainer.evaluate(rows(0, 8))).metrics).toEqual({ bias: expect.any(Number) });
  });

  it('see all that they ask for', async () => {
    // The gradient at doubled weights, of the first half only, with the loss of the second.
    const gradients: GradientStrategy = {
      gradients: (evaluate, { params, variant }) => {
        expect([Object.keys(params), variant]).toEqual([['w', 'b'], '']);
        evaluate({ part: [1, 2] });
        return evaluate({ params: mapValues(params, (p) => mul(p, 2)), part: [0, 2], counts: false });
      },
    };
    await using trainer = await regression(backend, { gradients });
    expect((await trainer.step(rows(0, 16))).loss).toBeCloseTo(plainGradient(start, 8, 16).loss, 5);
    const doubled = plainGradient(
      start.map((w) => 2 * w),
      0,
      8,
    ).gradient;
    expectClose(
      'weights',
      weightsOf(await trainer.params()),
      start.map((w, i) => w - 0.1 * doubled[i]!),
      1e-5,
    );
  });

  const twice = (found: { gradients: Named }, extra: Record<string, Named>) => ({ ...found, extra });
  it.each<[string, GradientStrategy, string]>([
    [
      'makes no evaluation that counts',
      { gradients: (evaluate) => evaluate({ counts: false }) },
      'trainer.step: the gradient strategy made no evaluation that counts',
    ],
    [
      'invents a parameter',
      { gradients: (evaluate) => ({ gradients: { ...evaluate().gradients, c: ones([]) } }) },
      "trainer.step: the gradient strategy: gradients: 'c' is no parameter that is trained",
    ],
    [
      'returns another shape',
      { gradients: (evaluate) => ({ gradients: { ...evaluate().gradients, b: ones([2]) } }) },
      'trainer.step: the gradient strategy: gradients: b: expected float32[1], like the parameter, received float32[2]',
    ],
    [
      'returns further gradients that it did not declare',
      { gradients: (evaluate) => twice(evaluate(), { other: { b: ones([1]) } }) },
      "trainer.step: the gradient strategy returned further gradients 'other', which are not in its extra",
    ],
    [
      'returns further gradients of another shape',
      { extra: ['other'], gradients: (evaluate) => twice(evaluate(), { other: { b: ones([2]) } }) },
      'trainer.step: the gradient strategy: extra.other: b: expected float32[1], like the parameter, received float32[2]',
    ],
    [
      'reports a metric of the loss once more',
      { gradients: (evaluate) => ({ ...evaluate(), metrics: { bias: ones([]) } }) },
      "trainer.step: the gradient strategy reports a metric 'bias', and so does the loss function",
    ],
    [
      'reports a vector',
      { gradients: (evaluate) => ({ ...evaluate(), metrics: { size: ones([2]) } }) },
      "trainer.step: metric 'size': expected a scalar",
    ],
  ])('fail a step if one %s', async (_what, gradients, message) => {
    const own = (p: Params, b: Batch) => ({ loss: loss(p, b), metrics: { bias: sum(p.b) } });
    await using trainer = await regression(backend, { loss: own, gradients });
    const before = await everything(trainer);
    await expect(trainer.step(rows(0, 8))).rejects.toThrow(message);
    expect(await everything(trainer)).toBe(before);
  });
});

describe('gradient strategies: options', () => {
  const [, backend] = devices[0]!;
  it.each<[string, () => unknown, string]>([
    [
      'no parts',
      () => accumulatedGradients({} as { parts: number }),
      'accumulatedGradients: parts: expected a positive integer, received undefined',
    ],
    ['0 parts', () => accumulatedGradients({ parts: 0 }), 'accumulatedGradients: parts: expected a positive integer, received 0'],
    ['1.5 parts', () => accumulatedGradients({ parts: 1.5 }), 'accumulatedGradients: parts: expected a positive integer, received 1.5'],
    ['another option', () => accumulatedGradients({ steps: 2 } as never), "accumulatedGradients: unknown option 'steps'"],
    ['when', () => halfGradients({ when: 3 as never }), 'halfGradients: when: expected a function of the step, received 3'],
    ['another option', () => halfGradients({ every: 2 } as never), "halfGradients: unknown option 'every'"],
    ['rho', () => perturbedGradients({ rho: -1 }), 'perturbedGradients: rho: expected a number >= 0, received -1'],
    ['rho', () => perturbedGradients({ rho: Number.NaN }), 'perturbedGradients: rho: expected a number >= 0, received NaN'],
    ['adaptive', () => perturbedGradients({ adaptive: 1 as never }), 'perturbedGradients: adaptive: expected true or false, received 1'],
    ['another option', () => perturbedGradients({ radius: 1 } as never), "perturbedGradients: unknown option 'radius'"],
  ])('are checked: %s', (_what, make, message) => {
    expect(make).toThrow(message);
  });

  const own = (gradients: GradientStrategy): Optimizer => transform('own', { gradients, update: (updates) => ({ updates }) });
  it('conflict with a strategy of the optimizer', async () => {
    const both: Partial<RegressionOptions> = { optimizer: own(perturbedGradients()), gradients: accumulatedGradients({ parts: 2 }) };
    await expect(regression(backend, both)).rejects.toThrow('createTrainer: gradients: the optimizer asks for a strategy of its own');
    expect(() => chain(own(perturbedGradients()), own(halfGradients()))).toThrow(
      'chain: two of the transforms ask for a gradient strategy of their own',
    );
  });

  it('are strategies', async () => {
    for (const gradients of ['accumulated', {}] as never[]) {
      await expect(regression(backend, { gradients })).rejects.toThrow('createTrainer: gradients: expected a gradient strategy');
    }
  });

  it('keep what an optimizer sees to the parameters that have a gradient', async () => {
    const partial = (p: Params, b: Batch): Tensor => sum(square(sub(predict({ ...p, b: ones([1]) }, b.x), b.y)));
    await using trainer = await regression(backend, { loss: partial, optimizer: keeping(['first'], halfGradients()) });
    await trainer.step(rows(0, 4));
    const state: Record<string, NDArray> = await trainer.optimizerState();
    expect([...state['first.b']!.data]).toEqual([0]);
    expect([...state['first.w']!.data].every((g) => g !== 0)).toBe(true);
    expect((await trainer.params()).b).toEqual(initial().b);
  });
});

it('micro-batches of batches of other sizes share sessions', async () => {
  await using backend = await createBackend({ device: 'cpu' });
  const sessions = countSessions(backend as OrtBackend);
  await using trainer = await regression(backend, { gradients: accumulatedGradients({ parts: 2 }) });
  const before = sessions.created;
  for (const size of [8, 10, 6, 12, 14, 9, 11, 7, 13]) await trainer.step(rows(0, size));
  // Halves that are equal, halves that are not, and the first pair of neighbours, whose first halves are alike.
  expect(sessions.created - before).toBeLessThanOrEqual(3);
});
