import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  array,
  type Backend,
  cast,
  compile,
  constant,
  createRng,
  exp,
  filled,
  hostInput,
  matmul,
  mean,
  mul,
  type NDArray,
  ones,
  relu,
  square,
  stopGradient,
  sum,
  type Tensor,
  type Tensors,
  toNumbers,
} from '../../src/index.js';
import { initLinear, linear, normal } from '../../src/layers/index.js';
import { crossEntropyLoss, mseLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { adam, adamw, type Optimizer, sgd, transform } from '../../src/optim/index.js';
import { createTrainer, type TrainerOptions } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { webgpuBackend } from '../support/devices.js';
import { countSessions, trackGpuTensors } from '../support/sessions.js';

let cpu: Backend;
let webgpu: Backend | undefined;
beforeAll(async () => {
  cpu = await createBackend({ device: 'cpu' });
  webgpu = await webgpuBackend();
});
afterAll(async () => {
  await cpu.close();
  await webgpu?.close();
});

/** A test on both devices. */
function onBoth(name: string, run: (backend: Backend) => Promise<void>): void {
  it(`${name} (cpu)`, () => run(cpu));
  it(`${name} (webgpu)`, async ({ skip }) => (webgpu ? run(webgpu) : skip('no WebGPU device')));
}

// A regression in three variables, with the answer known.
const rng = createRng(8);
const x = normal(rng, [16, 3]);
const answer = { w: [0.5, -1, 2], b: 0.25 };
const row = (i: number) => [0, 1, 2].map((k) => x.data[3 * i + k] as number);
const targets = Array.from({ length: 16 }, (_, i) => row(i).reduce((y, v, k) => y + v * (answer.w[k] as number), answer.b));
const batch = { x, y: array(targets, { shape: [16, 1] }) };
const initial = () => ({ w: array([[0.1], [0.2], [0.3]]), b: array([0]) });
type Params = { w: Tensor; b: Tensor };
type Batch = { x: Tensor; y: Tensor };
const predict = (p: Params, inputs: Tensor) => add(matmul(inputs, p.w), p.b);
const loss = (p: Params, { x: inputs, y }: Batch) => mseLoss(predict(p, inputs), y);
const regression = (backend: Backend, options: Partial<TrainerOptions<Params, Batch, Tensor, Tensor>> = {}) =>
  createTrainer(backend, { loss, predict, params: initial(), optimizer: sgd({ learningRate: 0.1 }), ...options });

/** Rows `from` to `to` of the batch. */
const part = (from: number, to: number) => ({
  x: array(x.data.slice(3 * from, 3 * to), { shape: [to - from, 3] }),
  y: array(targets.slice(from, to), { shape: [to - from, 1] }),
});

const bytes = (arrays: object) => JSON.stringify(arrays);

describe('createTrainer', () => {
  /** One weight's update from its gradient, its value, the step (from 1), and two numbers to remember. */
  type Rule = (g: number, value: number, t: number, memory: [number, number]) => number;
  const adamRule = (g: number, t: number, memory: [number, number]): number => {
    memory[0] = 0.9 * memory[0] + 0.1 * g;
    memory[1] = 0.999 * memory[1] + 0.001 * g * g;
    return (-0.05 * memory[0]) / (1 - 0.9 ** t) / (Math.sqrt(memory[1] / (1 - 0.999 ** t)) + 1e-8);
  };
  const rules: [name: string, optimizer: () => Optimizer, rule: Rule][] = [
    ['sgd', () => sgd({ learningRate: 0.1 }), (g) => -0.1 * g],
    [
      'momentum',
      () => sgd({ learningRate: 0.05, momentum: 0.9 }),
      (g, _, __, memory) => {
        memory[0] = 0.9 * memory[0] + g;
        return -0.05 * memory[0];
      },
    ],
    ['a schedule', () => sgd({ learningRate: (step) => 0.2 / (1 + step) }), (g, _, t) => (-0.2 / t) * g],
    ['adam', () => adam({ learningRate: 0.05 }), (g, _, t, memory) => adamRule(g, t, memory)],
    ['adamw', () => adamw({ learningRate: 0.05, weightDecay: 0.1 }), (g, value, t, memory) => adamRule(g, t, memory) - 0.05 * 0.1 * value],
  ];

  /** The same training in plain JavaScript, in float64. */
  function plainLoop(rule: Rule, steps: number): { losses: number[]; weights: number[] } {
    const weights = [0.1, 0.2, 0.3, 0].map(Math.fround);
    const memory = weights.map((): [number, number] => [0, 0]);
    const losses: number[] = [];
    for (let t = 1; t <= steps; t++) {
      const features = (i: number) => [...row(i), 1];
      const errors = targets.map((y, i) => features(i).reduce((sum, v, k) => sum + v * (weights[k] as number), -Math.fround(y)));
      losses.push(errors.reduce((sum, e) => sum + e * e, 0) / 16);
      const gradient = weights.map((_, k) => errors.reduce((sum, e, i) => sum + (2 / 16) * e * (features(i)[k] as number), 0));
      gradient.forEach((g, k) => {
        weights[k] = (weights[k] as number) + rule(g, weights[k] as number, t, memory[k] as [number, number]);
      });
    }
    return { losses, weights };
  }

  for (const [name, optimizer, rule] of rules) {
    onBoth(`equals a loop in plain JavaScript: ${name}`, async (backend) => {
      await using trainer = await regression(backend, { optimizer: optimizer() });
      const losses: number[] = [];
      for (let step = 0; step < 20; step++) losses.push((await trainer.step(batch)).loss);
      const expected = plainLoop(rule, 20);
      expectClose('losses', losses, expected.losses, 1e-5);
      const { w, b } = await trainer.params();
      expectClose('weights', [...toNumbers(w), ...toNumbers(b)], expected.weights, 1e-5);
      expect(trainer.steps).toBe(20);
    });
  }

  it.each(rules.filter(([name]) => name !== 'a schedule' && name !== 'adamw'))('converges: %s', async (_, optimizer) => {
    await using trainer = await regression(cpu, { optimizer: optimizer() });
    for (let step = 0; step < 500; step++) await trainer.step(batch);
    const { w, b } = await trainer.params();
    expectClose('weights', [...toNumbers(w), ...toNumbers(b)], [...answer.w, answer.b], 1e-3);
    const predictions = await trainer.predict(x);
    expect(predictions.shape).toEqual([16, 1]);
    expectClose('predictions', toNumbers(predictions), targets, 1e-3);
  });

  onBoth('reports loss and metrics, by name', async (backend) => {
    const withMetrics = (p: Params, b: Batch, { training }: { training: boolean }) => ({
      loss: loss(p, b),
      metrics: { shifted: add(sum(p.b), 2), count: sum(cast(b.x, 'int32')), training: constant(training ? 1 : 0) },
    });
    await using trainer = await createTrainer(backend, { loss: withMetrics, params: initial(), optimizer: sgd({ learningRate: 0.1 }) });
    const small = { x: array([[1, 2, 3]]), y: array([[1]]) };
    const expected = { shifted: 2, count: 6, training: 1 };
    expect(await trainer.step(small)).toEqual({ loss: expect.closeTo((0.1 + 0.4 + 0.9 - 1) ** 2, 5), metrics: expected });
    const { metrics } = await trainer.evaluate(small);
    expect(Object.keys(metrics)).toEqual(['shifted', 'count', 'training']);
    expect([metrics.count, metrics.training]).toEqual([6, 0]);
  });

  onBoth('changes nothing in evaluate and predict', async (backend) => {
    const optimizer = () => adam({ learningRate: 0.1 });
    await using one = await regression(backend, { optimizer: optimizer() });
    await using other = await regression(backend, { optimizer: optimizer() });
    for (let step = 0; step < 3; step++) {
      const before = bytes(await one.params());
      const report = await one.evaluate(batch);
      await one.predict(x);
      expect(bytes(await one.params())).toBe(before);
      expect((await one.step(batch)).loss).toBeCloseTo(report.loss, 5);
      await other.step(batch);
    }
    expect(one.steps).toBe(3);
    expect(bytes([await one.params(), await one.optimizerState()])).toBe(bytes([await other.params(), await other.optimizerState()]));
  });

  onBoth('gives copies of parameters and state', async (backend) => {
    await using trainer = await regression(backend, { optimizer: adam({ learningRate: 0.1 }) });
    for (let step = 0; step < 2; step++) {
      const [params, state] = [await trainer.params(), await trainer.optimizerState()];
      expect(Object.keys(state).sort()).toEqual(['m.b', 'm.w', 'step', 'v.b', 'v.w']);
      expect(state.step).toEqual({ data: Int32Array.of(step), shape: [], dtype: 'int32' });
      const before = bytes([params, state]);
      for (const { data } of [params.w, params.b, ...Object.values(state)]) data.fill(7);
      expect(bytes([await trainer.params(), await trainer.optimizerState()])).toBe(before);
      const predictions = await trainer.predict(x);
      predictions.data.fill(7);
      await trainer.step(batch);
      expect(params.w.data).toEqual(Float32Array.of(7, 7, 7));
    }
  });

  it('gives the same parameters and state on both devices', async ({ skip }) => {
    if (!webgpu) return skip('no WebGPU device');
    const results: object[][] = [];
    for (const backend of [cpu, webgpu]) {
      await using trainer = await regression(backend, { optimizer: adamw({ learningRate: 0.1 }) });
      for (let step = 0; step < 5; step++) await trainer.step(batch);
      results.push([...Object.values(await trainer.params()), ...Object.values(await trainer.optimizerState())]);
    }
    const [onCpu, onWebgpu] = results as [NDArray[], NDArray[]];
    expect(onWebgpu.map(({ shape, dtype }) => [shape, dtype])).toEqual(onCpu.map(({ shape, dtype }) => [shape, dtype]));
    for (const [i, value] of onCpu.entries()) expectClose(`array ${i}`, toNumbers(onWebgpu[i] as NDArray), toNumbers(value), 1e-4);
  });

  onBoth('changes nothing in a step that fails', async (backend) => {
    const classes = { up: initLinear(createRng(1), 3, 8), down: initLinear(createRng(2), 8, 4) };
    const classify = (p: Tensors<typeof classes>, b: { x: Tensor; labels: Tensor }) =>
      crossEntropyLoss(linear(relu(linear(b.x, p.up)), p.down), b.labels);
    const rates = [0.1, 0.1, Number.NaN];
    const options = () => ({ loss: classify, params: classes, optimizer: adam({ learningRate: (step) => rates[step] ?? 0.1 }) });
    await using trainer = await createTrainer(backend, options());
    await using twin = await createTrainer(backend, options());
    const good = { x: normal(createRng(3), [6, 3]), labels: array([0, 1, 2, 3, 0, 1], { dtype: 'int32' }) };
    const all = async (t: typeof trainer) => bytes([await t.params(), await t.optimizerState(), t.steps]);
    const failures: [object, string][] = [
      [
        { ...good, labels: array([0, 1, 2, 9, 0, 1], { dtype: 'int32' }) },
        'crossEntropyLoss: target: expected integers from 0 to 3 or -100, received 9 at index 3',
      ],
      [{ ...good, x: normal(createRng(3), [6, 2]) }, 'linear: expected x [..., in] and weight [out, in], received [6, 2] and [8, 3]'],
      [{ x: good.x }, 'crossEntropyLoss: target: expected a Tensor'],
      [{ ...good, x: 3 }, 'trainer.step: batch.x: expected an array'],
    ];
    for (let step = 0; step < 2; step++) {
      const before = await all(trainer);
      for (const [bad, message] of failures) {
        await expect(trainer.step(bad as typeof good)).rejects.toThrow(message);
        expect(await all(trainer)).toBe(before);
      }
      expect(await trainer.step(good)).toEqual(await twin.step(good));
    }
    const before = await all(trainer);
    await expect(trainer.step(good)).rejects.toThrow('learningRate(2): expected a number >= 0, received NaN');
    expect(await all(trainer)).toBe(before);
    rates[2] = 0.1;
    await Promise.all([trainer.step(good), twin.step(good)]);
    expect(await all(trainer)).toBe(await all(twin));
    expect(trainer.steps).toBe(3);
  });

  onBoth('runs steps that are not awaited in order', async (backend) => {
    await using trainer = await regression(backend);
    await using twin = await regression(backend);
    const batches = [part(0, 4), part(4, 8), part(0, 16), part(8, 12)];
    const together = await Promise.all([...batches.map(trainer.step), trainer.params(), trainer.evaluate(batch)]);
    const oneByOne: object[] = [];
    for (const b of batches) oneByOne.push(await twin.step(b));
    expect(together).toEqual([...oneByOne, await twin.params(), await twin.evaluate(batch)]);
    expect(trainer.steps).toBe(4);
  });

  onBoth('takes batches of other sizes without new sessions', async (backend) => {
    await using trainer = await regression(backend);
    const sessions = countSessions(backend);
    const losses: number[] = [];
    losses.push((await trainer.step(part(0, 16))).loss);
    const ofStep = sessions.created; // a device may need more than one for a step
    for (const size of [16, 3, 7, 2]) losses.push((await trainer.step(part(0, size))).loss);
    expect(sessions.created).toBe(ofStep);
    for (const size of [16, 3, 7]) await trainer.evaluate(part(0, size));
    expect(sessions.created).toBe(ofStep + 1);
    for (const size of [16, 3, 7]) expect((await trainer.predict(part(0, size).x)).shape).toEqual([size, 1]);
    expect(sessions.created).toBe(ofStep + 2);
    await using fixed = await regression(backend, { axes: null });
    for (const [i, size] of [16, 16, 3, 7, 2].entries()) expect((await fixed.step(part(0, size))).loss).toBeCloseTo(losses[i] as number, 5);
    await trainer.step(part(0, 1));
    await fixed.step(part(0, 1));
    expectClose('w', toNumbers((await trainer.params()).w), toNumbers((await fixed.params()).w), 1e-5);
  });

  onBoth('leaves alone what the loss does not reach', async (backend) => {
    const params = { w: array([1, 2]), unused: array([3, 4]), blocked: array([5]) };
    const partial = (p: Tensors<typeof params>, b: Tensor) => sum(mul(square(p.w), mul(b, stopGradient(p.blocked))));
    await using trainer = await createTrainer(backend, {
      loss: partial,
      params,
      optimizer: adamw({ learningRate: 0.1, weightDecay: 0.5 }),
    });
    for (let step = 0; step < 3; step++) await trainer.step(array(1));
    const after = await trainer.params();
    expect([after.unused, after.blocked]).toEqual([params.unused, params.blocked]);
    expect(after.w).not.toEqual(params.w);
    const state = await trainer.optimizerState();
    for (const name of ['m.unused', 'v.unused', 'm.blocked', 'v.blocked']) expect(new Set(state[name]?.data)).toEqual(new Set([0]));
    expect(toNumbers(state['m.w'] as NDArray).every((m) => m > 0)).toBe(true);
  });

  onBoth('keeps the shape of parameter trees', async (backend) => {
    const params = [{ w: array([1, 2]), 10: array([3]) }, array([5, 7, 9]), [array([11]), { deep: array([13]) }]];
    const total = (p: unknown) => Object.values(leavesOf(p)).reduce((a, t) => add(a, sum(t)), sum(leavesOf(p)[0] as Tensor));
    const leavesOf = (p: unknown): Tensor[] =>
      typeof p === 'object' && p && 'shape' in p ? [p as Tensor] : Object.values(p as object).flatMap(leavesOf);
    await using trainer = await createTrainer(backend, { loss: total, params: params as never, optimizer: sgd({ learningRate: 1 }) });
    await trainer.step([] as never);
    expect(await trainer.params()).toEqual([{ w: array([0, 1]), 10: array([1]) }, array([4, 6, 8]), [array([10]), { deep: array([12]) }]]);
    await using single = await createTrainer(backend, {
      loss: (p: Tensor, b: Tensor) => sum(mul(p, b)),
      params: array([1]),
      optimizer: sgd({ learningRate: 1 }),
    });
    await single.step(array([3]));
    expect(await single.params()).toEqual(array([-2]));
  });

  onBoth('copies initial parameters', async (backend) => {
    const mine: { w: NDArray; b?: NDArray } = initial();
    await using trainer = await regression(backend, { params: mine as ReturnType<typeof initial> });
    await using twin = await regression(backend);
    mine.w.data.fill(100);
    delete mine.b;
    expect(await trainer.step(batch)).toEqual(await twin.step(batch));
    mine.w = array([1]);
    expect(await trainer.params()).toEqual(await twin.params());
  });

  onBoth('draws the same host inputs for the same seed and step', async (backend) => {
    const noisy = (p: Params, b: Batch) =>
      loss(p, {
        ...b,
        x: mul(
          b.x,
          hostInput(({ rng: r }) => [0, 0, 0].map(() => 2 * r.int(2)), { shape: [3] }),
        ),
      });
    const losses = async (seed: number) => {
      await using trainer = await regression(backend, { loss: noisy, seed });
      return [await trainer.step(batch), await trainer.step(batch), await trainer.step(batch)].map((r) => r.loss);
    };
    expect(await losses(1)).toEqual(await losses(1));
    expect(await losses(1)).not.toEqual(await losses(2));
  });

  onBoth('names axes as it is told, for inputs of predict where they fit', async (backend) => {
    const average = (p: { w: Tensor }, inputs: Tensor) => mul(mean(inputs, { axis: 1 }), p.w);
    await using trainer = await createTrainer(backend, {
      loss: (p: { w: Tensor }, b: { x: Tensor; y: Tensor }) => mseLoss(average(p, b.x), b.y),
      predict: average,
      params: { w: array([1]) },
      optimizer: sgd({ learningRate: 0.1 }),
      axes: { x: ['batch', 'length'], y: ['batch'] },
    });
    const step = (n: number, t: number) => trainer.step({ x: filled([n, t], 1), y: filled([n], 0) });
    await step(3, 4);
    const sessions = countSessions(backend);
    await step(5, 9);
    await step(2, 6);
    expect(sessions.created).toBe(0);
    for (const n of [3, 5]) expect((await trainer.predict(filled([n, 4], 1))).shape).toEqual([n]);
    expect(sessions.created).toBe(1);
    await expect(trainer.step({ x: filled([3, 4], 1), y: filled([2], 0) })).rejects.toThrow(
      "axis 'batch' has size 3 in batch.x and 2 in batch.y",
    );
  });

  it('trains float16 parameters', async () => {
    const half = (values: number[]) => array(values, { dtype: 'float16' });
    await using trainer = await createTrainer(cpu, {
      loss: (p: { w: Tensor }, b: Tensor) => sum(square(mul(p.w, b))),
      params: { w: half([1, -2]) },
      optimizer: sgd({ learningRate: 0.25 }),
    });
    expect((await trainer.step(array(1, { dtype: 'float16' }))).loss).toBe(5);
    expect(await trainer.params()).toEqual({ w: half([0.5, -1]) });
  });
});

describe('createTrainer: errors', () => {
  const one = { w: array([1]) };
  const w = (p: { w: Tensor }) => sum(p.w);
  const shared = array([1]);
  const optimizer = sgd({ learningRate: 0.1 });
  const options = { loss: w, params: one, optimizer };

  it.each<[string, object, string]>([
    ['no loss', { ...options, loss: undefined }, 'createTrainer: loss: expected a function of parameters and batch, received undefined'],
    ['no optimizer', { ...options, optimizer: {} }, 'createTrainer: optimizer: expected an optimizer, such as adam()'],
    [
      'an optimizer that was not made',
      { ...options, optimizer: adam },
      'createTrainer: optimizer: expected an optimizer, such as adam(), received a function',
    ],
    ['predict', { ...options, predict: 1 }, 'createTrainer: predict: expected a function, received 1'],
    [
      'unknown options',
      { ...options, lr: 1 },
      "createTrainer: unknown option 'lr'; the options are loss, params, optimizer, state, predict, trainable, gradients, padTo, axes, seed, beforeStep, afterStep, snapshotEvery, debugNonFinite",
    ],
    ['a bad seed', { ...options, seed: 0.5 }, 'createTrainer: seed: expected an integer from 0 to 2^53 - 1, received 0.5'],
    ['no parameters', { ...options, params: {} }, 'createTrainer: params: expected at least one array'],
    [
      'numbers as parameters',
      { ...options, params: { w: 1 } },
      'createTrainer: params.w: expected an array { data, shape } or a tree of arrays (a number: array(number)), received 1',
    ],
    [
      'integer parameters',
      { ...options, params: { w: array([1], { dtype: 'int32' }) } },
      'createTrainer: params.w: expected a float array (parameters are trained), received an array int32[1]',
    ],
    [
      'one array at two places',
      { ...options, params: { a: shared, b: [shared] } },
      'createTrainer: params.a and params.b.0 are the same array; share weights inside the model instead',
    ],
    [
      'two arrays of one name',
      { ...options, params: { 'a.b': shared, a: { b: array([0]) } } },
      "createTrainer: two leaves are called 'params.a.b'; paths are names, so they must differ",
    ],
  ])('refuses %s', async (_, given, message) => {
    await expect(createTrainer(cpu, given as typeof options)).rejects.toThrow(message);
  });

  it('refuses another object as backend', async () => {
    await expect(createTrainer({} as Backend, options)).rejects.toThrow(
      'createTrainer: backend: expected a backend made by createBackend()',
    );
  });

  const grow = transform('grow', { update: (updates) => ({ updates: { w: add(updates.w as Tensor, ones([2, 1])) } }) });
  const forget: Optimizer = { ...sgd({ learningRate: 1, momentum: 0.9 }), update: (updates) => ({ updates, state: {} }) };
  it.each<[string, object, string]>([
    [
      'a loss that is no scalar',
      { loss: (p: typeof one) => p.w },
      'trainer.step: the loss: expected a float scalar (shape []; reduce it with mean() or sum()), received float32[1]',
    ],
    ['an integer loss', { loss: () => sum(cast(ones([1]), 'int32')) }, 'trainer.step: the loss: expected a float scalar'],
    [
      'no loss',
      { loss: () => undefined },
      'trainer.step: the loss function: expected a Tensor or { loss, metrics?, state?, perSample?, weight? } as its result',
    ],
    [
      'a metric that is no scalar',
      { loss: (p: { w: Tensor }) => ({ loss: w(p), metrics: { each: p.w } }) },
      "trainer.step: metric 'each': expected a scalar (shape []), received float32[1]",
    ],
    [
      'a metric that is a number',
      { loss: (p: { w: Tensor }) => ({ loss: w(p), metrics: { n: 3 } }) },
      "trainer.step: metric 'n': expected a Tensor, received 3",
    ],
    [
      'a misplaced metric',
      { loss: (p: { w: Tensor }) => ({ loss: w(p), accuracy: w(p) }) },
      "trainer.step: the loss function returned 'accuracy'; expected a Tensor or { loss, metrics?, state?, perSample?, weight? }",
    ],
    [
      'a missing parameter',
      { loss: (p: { w: Tensor; w2?: Tensor }) => sum(matmul(p.w, p.w2 as Tensor)) },
      'matmul: b: expected a Tensor (is a parameter missing?), received undefined',
    ],
    ['a loss that depends on no parameter', { loss: (_: object, b: Tensor) => sum(b) }, 'trainer.step: the loss depends on no parameter'],
    [
      'an optimizer that changes shapes',
      { optimizer: grow },
      'trainer.step: the update of w: expected the shape [1], received float32[2, 1]',
    ],
    ['an optimizer that forgets state', { optimizer: forget }, 'trainer.step: state momentum.w after the step: expected a Tensor'],
  ])('refuses %s in a step', async (_, change, message) => {
    // What is wrong with an optimizer shows before there is a batch.
    const step = async () => {
      await using trainer = await createTrainer(cpu, { ...options, ...change } as typeof options);
      await trainer.step(array([1]) as never).finally(() => expect(trainer.steps).toBe(0));
    };
    await expect(step()).rejects.toThrow(message);
  });

  it('refuses predict without a function', async () => {
    await using trainer = await createTrainer(cpu, options);
    await expect(trainer.predict(array([1]))).rejects.toThrow('trainer.predict: createTrainer() was given no predict function');
  });

  onBoth('refuses everything after close()', async (backend) => {
    const trainer = await regression(backend);
    await trainer.step(batch);
    await trainer.close();
    await trainer.close();
    const calls = {
      step: trainer.step(batch),
      evaluate: trainer.evaluate(batch),
      predict: trainer.predict(x),
      params: trainer.params(),
      optimizerState: trainer.optimizerState(),
    };
    for (const [name, call] of Object.entries(calls)) await expect(call).rejects.toThrow(`trainer.${name}: the trainer is closed`);
  });

  it.each(['cpu', 'webgpu'])('may outlive its backend (%s)', async (device) => {
    const backend = device === 'cpu' ? await createBackend({ device: 'cpu' }) : await webgpuBackend();
    if (!backend) return;
    const live = trackGpuTensors(backend);
    const trainer = await regression(backend, { optimizer: adam() });
    await trainer.step(batch);
    expect(live.size).toBe(device === 'cpu' ? 0 : 7);
    await backend.close();
    expect(live.size).toBe(0);
    await expect(trainer.step(batch)).rejects.toThrow('trainer.step: the backend is closed');
    await trainer.close();
    expect(toNumbers(await compile(cpu, exp)(array([0])))).toEqual([1]);
  });
});

describe('createTrainer: memory', () => {
  onBoth('keeps what is on the device when sessions are evicted', async (backend) => {
    const small = backend === cpu ? await createBackend({ device: 'cpu', cacheBytes: 1 }) : await tinyWebgpu();
    const sessions = countSessions(small);
    await using trainer = await regression(small, { optimizer: adam({ learningRate: 0.1 }) });
    await using twin = await regression(backend, { optimizer: adam({ learningRate: 0.1 }) });
    for (let step = 0; step < 3; step++) {
      expect(await trainer.step(batch)).toEqual(await twin.step(batch));
      expect(await trainer.evaluate(batch)).toEqual(await twin.evaluate(batch));
      const other = compile(small, exp);
      await other(array([0]));
      await other.close();
    }
    expect(sessions.released).toBeGreaterThan(6);
    expect(await trainer.params()).toEqual(await twin.params());
    await small.close();
  });
  const tinyWebgpu = () => createBackend({ device: 'webgpu', cacheBytes: 1 });

  it('disposes what it replaces on the GPU', async ({ skip }) => {
    const backend = await webgpuBackend();
    if (!backend) return skip('no WebGPU device');
    const live = trackGpuTensors(backend);
    const params = { w: normal(createRng(1), [320, 320]), b: filled([320], 0) };
    const trainer = await createTrainer(backend, {
      loss: (p: Tensors<typeof params>, b: Tensor) => mean(square(add(matmul(b, p.w), p.b))),
      params,
      optimizer: adam({ learningRate: 0.01 }),
    });
    const x8 = normal(createRng(2), [8, 320]);
    for (let step = 0; step < 5; step++) await trainer.step(x8);
    const [before, first] = [process.memoryUsage.rss(), (await trainer.evaluate(x8)).loss];
    for (let step = 0; step < 40; step++) await trainer.step(x8);
    // A step writes 1.2 MB, so without disposal it grows by about 50 MB.
    expect(process.memoryUsage.rss() - before).toBeLessThan(30e6);
    expect((await trainer.evaluate(x8)).loss).toBeLessThan(first / 2);
    expect(live.size).toBe(7); // w and b, m and v of each, and the step
    await expect(trainer.step(normal(createRng(2), [8, 3]))).rejects.toThrow('matmul');
    expect(live.size).toBe(7);
    await trainer.close();
    expect(live.size).toBe(0);
    await backend.close();
  });
});
