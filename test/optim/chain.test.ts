import { afterAll, describe, expect, it } from 'vitest';
import { array, mul, type Tensor, toNumbers } from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import {
  adamw,
  addDecayedWeights,
  chain,
  scaleByAdam,
  scaleByLearningRate,
  type Transform,
  trace,
  transform,
} from '../../src/optim/index.js';
import { leaf } from '../support/leaves.js';
import { runSteps } from '../support/run.js';

const backend = await createBackend({ device: 'cpu' });
afterAll(() => backend.close());

const params = { w: array([1, -2]) };
const grads = [{ w: array([1, 2]) }, { w: array([0.5, -1]) }, { w: array([3, 1]) }];
const slotsOf = (made: Transform) => [...made.slots];

/** All parameters after every step. */
const walk = async (made: Transform) => (await runSteps(backend, made, params, grads)).map((after) => toNumbers(after.params.w!));

describe('chain', () => {
  it('numbers slots that occur more than once, also those of chains inside', () => {
    const momentum = () => trace({ decay: 0.5 });
    expect(slotsOf(chain(momentum(), momentum(), momentum()))).toEqual(['momentum', 'momentum2', 'momentum3']);
    const inside = slotsOf(chain(chain(momentum(), momentum()), momentum(), scaleByAdam()));
    expect(new Set(inside).size).toBe(6);
    const after = slotsOf(chain(momentum(), chain(momentum(), momentum())));
    expect(new Set(after).size).toBe(3);
  });

  it.each([
    ['one after the other', chain(trace({ decay: 0.5 }), trace({ decay: 0.25 }), trace({ decay: 0.75 }))],
    ['a chain first', chain(chain(trace({ decay: 0.5 }), trace({ decay: 0.25 })), trace({ decay: 0.75 }))],
    ['a chain last', chain(trace({ decay: 0.5 }), chain(trace({ decay: 0.25 }), trace({ decay: 0.75 })))],
  ])('gives every transform its own state: %s', async (_, made) => {
    const buffers = [
      [0, 0],
      [0, 0],
      [0, 0],
    ];
    const w = [1, -2];
    const expected = grads.map((g) => {
      let update = toNumbers(g.w);
      [0.5, 0.25, 0.75].forEach((decay, k) => {
        update = update.map((u, i) => decay * buffers[k]![i]! + u);
        buffers[k] = update;
      });
      update.forEach((u, i) => {
        w[i]! += u;
      });
      return [...w];
    });
    // Sums of powers of two: exact.
    expect(await walk(made)).toEqual(expected);
  });

  it('makes adamw of its links', async () => {
    const made = chain(scaleByAdam(), addDecayedWeights({ weightDecay: 0.2 }), scaleByLearningRate(0.1));
    expect(await walk(made)).toEqual(await walk(adamw({ learningRate: 0.1, weightDecay: 0.2 })));
  });

  it('takes transforms of one’s own', async () => {
    const double = transform('double', {
      update: (updates) => ({ updates: Object.fromEntries(Object.entries(updates).map(([k, u]) => [k, mul(u, 2)])) }),
    });
    expect(await walk(chain(double, scaleByLearningRate(0.25)))).toEqual([
      [0.5, -3],
      [0.25, -2.5],
      [-1.25, -3],
    ]);
  });

  it('leaves state that is not its own alone', () => {
    const tree = { w: leaf([2]) };
    const made = chain(trace({ decay: 0.5 }), scaleByLearningRate(0.1));
    const other: Tensor = leaf([]);
    const { state } = made.update(tree, { ...made.init(tree), other }, tree);
    expect(state.other).toBe(other);
  });

  it('rejects what is no transform', () => {
    expect(() => chain(scaleByAdam(), 0.1 as unknown as Transform)).toThrow(
      new TypeError('chain: argument 1: expected a gradient transform, received 0.1'),
    );
  });
});

describe('links by themselves', () => {
  const mistakes: [() => Transform, string][] = [
    [() => trace({ decay: 1 }), 'trace: decay: expected a number in [0, 1), received 1'],
    [() => trace({ decay: 0, nesterov: true }), 'trace: nesterov needs decay > 0 and dampening 0, received decay 0 and dampening 0'],
    [() => scaleByAdam({ eps: -1 }), 'scaleByAdam: eps: expected a number > 0, received -1'],
    [() => scaleByLearningRate(-1), 'scaleByLearningRate: learningRate: expected a number >= 0 or a function of the step, received -1'],
    [() => addDecayedWeights({ weightDecay: -1 }), 'addDecayedWeights: weightDecay: expected a number >= 0, received -1'],
    [
      () => addDecayedWeights({ weightDecayMask: {} } as object),
      "addDecayedWeights: unknown option 'weightDecayMask'; the options are weightDecay, mask",
    ],
  ];
  it.each(mistakes.map(([build, message]) => ({ build, message })))('reject mistakes: $message', ({ build, message }) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });

  it('keep the state of a parameter without gradient', () => {
    const tree = { w: leaf([2]), b: leaf([3]) };
    for (const made of [trace({ decay: 0.5 }), scaleByAdam({ amsgrad: true })]) {
      const before = made.init(tree);
      const { state, updates } = made.update({ w: tree.w } as typeof tree, before, tree);
      expect(updates.b).toBeUndefined();
      for (const slot of made.slots.filter((name) => name !== 'step')) {
        expect(state[`${slot}.b`]).toBe(before[`${slot}.b`]);
        expect(state[`${slot}.w`]).not.toBe(before[`${slot}.w`]);
      }
    }
  });

  it('name a mask that fits no parameter', () => {
    const tree = { w: leaf([2]) };
    expect(() => addDecayedWeights({ weightDecay: 1, mask: { v: true } }).update(tree, {}, tree)).toThrow(
      new RangeError("addDecayedWeights: mask names 'v', which is no parameter; the parameters are w"),
    );
  });
});
