import { describe, expect, it } from 'vitest';
import { array, type NDArray, toNumbers } from '../../src/index.js';
import { type AdamOptions, type AdamwOptions, adam, adamw, type Optimizer, type SgdOptions, sgd } from '../../src/optim/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { runSteps } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';

/** One parameter with its state, in float64. */
type Slots = Record<string, number[]>;
type Update = (w: readonly number[], g: readonly number[], slots: Slots, t: number, decays: boolean) => number[];

const rateAt = (rate: number | ((step: number) => number) | undefined, t: number): number =>
  typeof rate === 'function' ? rate(t - 1) : (rate ?? 1e-3);

/** SGD as PyTorch's documentation has it. */
const sgdReference =
  ({ learningRate, momentum = 0, dampening = 0, nesterov = false, weightDecay = 0 }: SgdOptions): Update =>
  (w, g, slots, t, decays) =>
    w.map((value, i) => {
      const d = g[i]! + (decays ? weightDecay * value : 0);
      if (momentum === 0) return value - rateAt(learningRate, t) * d;
      const buffer = t === 1 ? d : momentum * slots.momentum![i]! + (1 - dampening) * d;
      slots.momentum![i] = buffer;
      return value - rateAt(learningRate, t) * (nesterov ? d + momentum * buffer : buffer);
    });

/** Adam as PyTorch's documentation has it; `decoupled` is AdamW. */
const adamReference =
  ({ learningRate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, amsgrad = false, weightDecay = 0 }: AdamOptions, decoupled: boolean): Update =>
  (w, g, slots, t, decays) =>
    w.map((value, i) => {
      const decay = decays ? weightDecay : 0;
      const d = g[i]! + (decoupled ? 0 : decay * value);
      const m = beta1 * slots.m![i]! + (1 - beta1) * d;
      let v = beta2 * slots.v![i]! + (1 - beta2) * d * d;
      [slots.m![i], slots.v![i]] = [m, v];
      if (amsgrad) {
        v = Math.max(slots.vMax![i]!, v);
        slots.vMax![i] = v;
      }
      const rate = rateAt(learningRate, t);
      const start = decoupled ? value * (1 - rate * decay) : value;
      return start - (rate * (m / (1 - beta1 ** t))) / (Math.sqrt(v) / Math.sqrt(1 - beta2 ** t) + eps);
    });

const shapes = { w: [3, 2], b: [5], s: [] };
const names = Object.keys(shapes) as (keyof typeof shapes)[];
const STEPS = 50;

const record = <T>(f: (name: keyof typeof shapes, index: number) => T): Record<string, T> =>
  Object.fromEntries(names.map((name, i) => [name, f(name, i)]));

const initial = record((name, i) => normalArray(100 + i, shapes[name]));
const gradientsOf = (step: number) => record((name, i) => normalArray(1000 + 10 * step + i, shapes[name]));

interface Row {
  readonly name: string;
  readonly optimizer: Optimizer;
  readonly update: Update;
  /** Names of the state per parameter. */
  readonly slots: readonly string[];
  readonly step: boolean;
  readonly decays: (name: string) => boolean;
}

const onlyW = (name: string): boolean => name === 'w';
const all = (_: string): boolean => true;

const sgdRow = (name: string, options: SgdOptions, decays = all): Row => ({
  name: `sgd ${name}`,
  optimizer: sgd(options),
  update: sgdReference(options),
  slots: options.momentum ? ['momentum'] : [],
  step: Boolean(options.dampening),
  decays,
});
const adamRow = (name: string, options: AdamOptions, decays = all): Row => ({
  name: `adam ${name}`,
  optimizer: adam(options),
  update: adamReference(options, false),
  slots: options.amsgrad ? ['m', 'v', 'vMax'] : ['m', 'v'],
  step: true,
  decays,
});
const adamwRow = (name: string, options: AdamwOptions, decays = all): Row => ({
  ...adamRow(name, options, decays),
  name: `adamw ${name}`,
  optimizer: adamw(options),
  update: adamReference({ weightDecay: 0.01, ...options }, true),
});

const learningRate = 0.05;
const rows: Row[] = [
  sgdRow('plain', { learningRate }),
  sgdRow('with rate 0', { learningRate: 0, momentum: 0.9 }),
  sgdRow('with a schedule', { learningRate: (step) => 0.1 / (1 + step), momentum: 0.9 }),
  sgdRow('with momentum', { learningRate, momentum: 0.9 }),
  sgdRow('with dampening', { learningRate, momentum: 0.9, dampening: 0.3 }),
  sgdRow('with Nesterov momentum', { learningRate, momentum: 0.8, nesterov: true }),
  sgdRow('with decay', { learningRate, weightDecay: 0.1 }),
  sgdRow('with momentum, dampening and decay', { learningRate, momentum: 0.9, dampening: 0.1, weightDecay: 0.1 }),
  sgdRow('with a mask by name', { learningRate, weightDecay: 0.1, weightDecayMask: { b: false, s: false, w: true } }, onlyW),
  sgdRow('with a mask by shape', { learningRate, weightDecay: 0.1, weightDecayMask: (_, shape) => shape.length === 2 }, onlyW),
  sgdRow('with a mask of one name', { learningRate, weightDecay: 0.1, weightDecayMask: { b: false } }, (name) => name !== 'b'),
  adamRow('by default', {}),
  adamRow('with other rates', { learningRate, beta1: 0.5, beta2: 0.9, eps: 0.1 }),
  adamRow('without moments', { learningRate, beta1: 0, beta2: 0 }),
  adamRow('with a long memory', { learningRate, beta2: 0.99999 }),
  adamRow('with amsgrad', { learningRate, beta2: 0.8, amsgrad: true }),
  adamRow('with coupled decay', { learningRate, weightDecay: 0.3 }),
  adamRow('with a mask', { learningRate, weightDecay: 0.3, weightDecayMask: (name) => name === 'w' }, onlyW),
  adamRow('with a schedule', { learningRate: (step) => 0.1 * 0.9 ** step }),
  adamwRow('by default', {}),
  adamwRow('with decay', { learningRate, weightDecay: 0.3 }),
  adamwRow('without decay', { learningRate, weightDecay: 0 }),
  adamwRow('with a mask', { learningRate, weightDecay: 0.3, weightDecayMask: { b: false, s: false } }, onlyW),
  adamwRow('with amsgrad and a schedule', { learningRate: (step) => 0.1 / (1 + step), beta2: 0.9, amsgrad: true }),
];

/** Runs the reference on the parameters named, and compares everything after every step. */
function checkSteps(row: Row, steps: Awaited<ReturnType<typeof runSteps>>, params: Record<string, NDArray>): void {
  const w = Object.fromEntries(Object.entries(params).map(([name, value]) => [name, toNumbers(value)]));
  const state = Object.fromEntries(names.map((name) => [name, Object.fromEntries(row.slots.map((slot) => [slot, w[name]!.map(() => 0)]))]));
  const keys = [...row.slots.flatMap((slot) => names.map((name) => `${slot}.${name}`)), ...(row.step ? ['step'] : [])];
  steps.forEach((after, i) => {
    const g = gradientsOf(i);
    expect(Object.keys(after.state).sort()).toEqual(keys.sort());
    if (row.step) expect(toNumbers(after.state.step!)).toEqual([i + 1]);
    for (const name of names) {
      w[name] = row.update(w[name]!, toNumbers(g[name]!), state[name]!, i + 1, row.decays(name));
      expectClose(`${name} after step ${i}`, toNumbers(after.params[name]!), w[name], 1e-5);
      for (const slot of row.slots)
        expectClose(`${slot}.${name} after step ${i}`, toNumbers(after.state[`${slot}.${name}`]!), state[name]![slot]!, 1e-5);
    }
  });
}

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('on %s, 50 steps of', (_, backend) => {
  it.each(rows)('$name', async (row) => {
    const steps = await runSteps(
      backend,
      row.optimizer,
      initial,
      Array.from({ length: STEPS }, (_, i) => gradientsOf(i)),
    );
    expect(steps.length).toBe(STEPS);
    checkSteps(row, steps, initial);
  });
});

describe('an optimizer', () => {
  it.each([
    ['sgd', sgd({ learningRate, momentum: 0.9, weightDecay: 0.1 })],
    ['adam', adam({ learningRate, weightDecay: 0.1, amsgrad: true })],
    ['adamw', adamw({ learningRate, weightDecay: 0.1 })],
  ])('%s leaves a parameter without gradient alone, with its state', async (_, optimizer) => {
    const [first, second, third] = await runSteps(cpu, optimizer, initial, [
      gradientsOf(0),
      { w: gradientsOf(1).w! },
      { w: gradientsOf(2).w!, b: gradientsOf(2).b! },
    ]);
    const slots = Object.keys(first!.state).filter((name) => name.endsWith('.b'));
    expect(slots.length).toBeGreaterThan(0);
    expect(second!.params.b).toEqual(first!.params.b);
    expect(second!.params.w).not.toEqual(first!.params.w);
    expect(third!.params.b).not.toEqual(second!.params.b);
    for (const name of slots) {
      expect(second!.state[name], name).toEqual(first!.state[name]);
      expect(third!.state[name], name).not.toEqual(second!.state[name]);
    }
  });

  it('keeps float16 parameters in float16 and their state in float32', async () => {
    const half = (values: NDArray) => array(toNumbers(values), { shape: values.shape, dtype: 'float16' });
    const params = record((name) => half(initial[name]!));
    const grads = Array.from({ length: STEPS }, (_, i) => gradientsOf(i));
    const steps = await runSteps(
      cpu,
      adamw({ learningRate }),
      params,
      grads.map((g) => record((name) => half(g[name]!))),
    );
    const last = steps.at(-1)!;
    expect([last.params.w!.dtype, last.state['m.w']!.dtype, last.state['v.w']!.dtype]).toEqual(['float16', 'float32', 'float32']);
    for (const name of names) {
      const slots: Slots = { m: [], v: [] };
      let w = toNumbers(params[name]!);
      for (const key of ['m', 'v']) slots[key] = w.map(() => 0);
      const update = adamReference({ learningRate, weightDecay: 0.01 }, true);
      grads.forEach((g, i) => {
        const exact = update(w, toNumbers(half(g[name]!)), slots, i + 1, true);
        w = toNumbers(array(exact, { dtype: 'float16' }));
      });
      // Sums that lie half-way between two float16 numbers may be rounded either way.
      expectClose(name, toNumbers(last.params[name]!), w, 2e-3);
      expectClose(`m.${name}`, toNumbers(last.state[`m.${name}`]!), slots.m!, 1e-5);
    }
  });

  it('names the state by the paths of the parameters', () => {
    const params = { blocks: [{ weight: leaf([2]) }, { weight: leaf([3], 'float16') }] };
    const state = adam().init(params);
    expect(Object.keys(state).sort()).toEqual(['m.blocks.0.weight', 'm.blocks.1.weight', 'step', 'v.blocks.0.weight', 'v.blocks.1.weight']);
    expect([state['m.blocks.1.weight']!.shape, state['m.blocks.1.weight']!.dtype, state.step!.dtype]).toEqual([[3], 'float32', 'int32']);
  });

  it.each([
    ['sgd', sgd({ learningRate, weightDecayMask: { bias: false } })],
    ['adam', adam({ weightDecay: 0.1, weightDecayMask: { bias: false } })],
    ['adamw', adamw({ weightDecayMask: { bias: true } })],
  ])('%s rejects a mask that names no parameter', (name, optimizer) => {
    const params = { w: leaf([2]), b: leaf([1]) };
    expect(() => optimizer.update(params, optimizer.init(params), params)).toThrow(
      new RangeError(`${name}: weightDecayMask names 'bias', which is no parameter; the parameters are w, b`),
    );
  });

  it('names state that is missing', () => {
    const params = { w: leaf([2]) };
    const expected = 'expected a Tensor (state comes from init() with the same parameters), received undefined';
    expect(() => sgd({ learningRate, momentum: 0.9 }).update(params, {}, params)).toThrow(
      new TypeError(`sgd: state 'momentum.w': ${expected}`),
    );
    expect(() => adam().update(params, {}, params)).toThrow(new TypeError(`adam: state 'step': ${expected}`));
  });

  it('fails a step for which the schedule returns no rate', async () => {
    const optimizer = sgd({ learningRate: (step) => [0.1, -0.1][step]! });
    await expect(runSteps(cpu, optimizer, initial, [gradientsOf(0), gradientsOf(1)])).rejects.toThrow(
      new RangeError('sgd: learningRate(1): expected a number >= 0, received -0.1'),
    );
  });

  const range = 'expected a number in [0, 1), received';
  const mistakes: [() => Optimizer, string][] = [
    [() => sgd({ learningRate: -1 }), 'sgd: learningRate: expected a number >= 0 or a function of the step, received -1'],
    [() => sgd({} as SgdOptions), 'sgd: learningRate: expected a number >= 0 or a function of the step, received undefined'],
    [() => sgd({ learningRate, momentum: 1 }), `sgd: momentum: ${range} 1`],
    [() => sgd({ learningRate, momentum: -0.5 }), `sgd: momentum: ${range} -0.5`],
    [() => sgd({ learningRate, nesterov: true }), 'sgd: nesterov needs momentum > 0 and dampening 0, received momentum 0 and dampening 0'],
    [
      () => sgd({ learningRate, momentum: 0.9, nesterov: true, dampening: 0.5 }),
      'sgd: nesterov needs momentum > 0 and dampening 0, received momentum 0.9 and dampening 0.5',
    ],
    [() => sgd({ learningRate, dampening: 0.5 }), 'sgd: dampening needs momentum > 0, received dampening 0.5'],
    [() => sgd({ learningRate, momentum: 0.9, dampening: -1 }), 'sgd: dampening: expected a number from 0 to 1, received -1'],
    [() => sgd({ learningRate, momentum: 0.9, nesterov: 1 as unknown as boolean }), 'sgd: nesterov: expected true or false, received 1'],
    [() => sgd({ learningRate, weightDecay: -0.1 }), 'sgd: weightDecay: expected a number >= 0, received -0.1'],
    [
      () => sgd({ learningRate, weightDecayMask: true as unknown as Record<string, boolean> }),
      'sgd: weightDecayMask: expected a record of booleans or a function of name and shape, received true',
    ],
    [
      () => sgd({ learningRate, lr: 1 } as SgdOptions),
      "sgd: unknown option 'lr'; the options are learningRate, momentum, dampening, nesterov, weightDecay, weightDecayMask",
    ],
    [() => adam({ learningRate: Number.NaN }), 'adam: learningRate: expected a number >= 0 or a function of the step, received NaN'],
    [() => adam({ beta1: 1 }), `adam: beta1: ${range} 1`],
    [() => adam({ beta2: -0.1 }), `adam: beta2: ${range} -0.1`],
    [() => adam({ eps: 0 }), 'adam: eps: expected a number > 0, received 0'],
    [() => adam({ weightDecay: -1 }), 'adam: weightDecay: expected a number >= 0, received -1'],
    [() => adam({ amsgrad: 'yes' as unknown as boolean }), "adam: amsgrad: expected true or false, received 'yes'"],
    [
      () => adam({ momentum: 0.9 } as AdamOptions),
      "adam: unknown option 'momentum'; the options are learningRate, beta1, beta2, eps, amsgrad, weightDecay, weightDecayMask",
    ],
    [() => adamw({ beta1: 1 }), `adamw: beta1: ${range} 1`],
    [
      () => adamw({ learningRate: '0.1' as unknown as number }),
      "adamw: learningRate: expected a number >= 0 or a function of the step, received '0.1'",
    ],
    [() => adamw({ weightDecay: Number.POSITIVE_INFINITY }), 'adamw: weightDecay: expected a number >= 0, received Infinity'],
  ];
  it.each(mistakes.map(([build, message]) => ({ build, message })))('rejects mistakes: $message', ({ build, message }) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
