import { describe, expect, it, vi } from 'vitest';
import {
  add,
  type Backend,
  checkpoint,
  compile,
  concat,
  constant,
  createRng,
  exportOnnx,
  filled,
  gradients,
  matmul,
  mean,
  mul,
  type NDArray,
  split,
  square,
  sum,
  type Tensor,
  type Tensors,
  tanh,
  toNumbers,
} from '../../src/index.js';
import {
  type ConvParams,
  conv2d,
  dropout,
  initConv2d,
  initLinear,
  type LinearParams,
  linear,
  reversibleBlock,
  reversibleBlockInverse,
  reversibleSequence,
} from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { type BatchNormState, batchNorm, type ChannelParams, groupNorm, initBatchNorm } from '../../src/norm/index.js';
import { adam } from '../../src/optim/index.js';
import { createTrainer, type LossContext } from '../../src/train/index.js';
import { normal } from '../support/draw.js';
import { leaf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { optimized } from '../support/optimized.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { op, testOps } from '../support/test-ops.js';

type Functions<P> = { f: (u: Tensor, p: P) => Tensor; g: (u: Tensor, p: P) => Tensor };

/** The block by its definition, without anything of ours. */
function plainBlock<P>(x: Tensor, params: { f: P; g: P }, { f, g }: Functions<P>): Tensor {
  const [x1, x2] = split(x, 2, { axis: 1 }) as [Tensor, Tensor];
  const y1 = add(x1, f(x2, params.f));
  return concat([y1, add(x2, g(y1, params.g))], { axis: 1 });
}

const product = { f: (u: Tensor, w: Tensor) => tanh(matmul(u, w)), g: (u: Tensor, w: Tensor) => mul(tanh(u), sum(matmul(tanh(u), w))) };
const argument = [normal([3, 4]), normal([2, 2]), normal([2, 2])] as const;
const pairOf = (x: Tensor) => split(x, 2, { axis: 1 }) as unknown as [Tensor, Tensor];

/** Expand, convolve every channel by itself, project. */
const mobile = (seed: number) => ({
  expand: constant(normalArray(seed, [6, 2, 1, 1])),
  depthwise: constant(normalArray(seed + 10, [6, 1, 3, 3])),
  project: constant(normalArray(seed + 20, [2, 6, 1, 1])),
});
const normConv = (x: Tensor, weight: Tensor, groups = 1) =>
  groupNorm(conv2d(x, { weight }, { padding: 'same', groups }), {}, { numGroups: 2 });
const bottleneck = (u: Tensor, p: Record<'expand' | 'depthwise' | 'project', Tensor>) =>
  normConv(tanh(normConv(tanh(normConv(u, p.expand)), p.depthwise, 6)), p.project);
const bottlenecks = { f: bottleneck, g: bottleneck };

testOps(
  {},
  [
    op('reversibleBlock', argument, (x, f, g) => reversibleBlock(x!, { f: f!, g: g! }, product)),
    op('reversibleBlock of a pair', argument, (x, f, g) => reversibleBlock(pairOf(x!), { f: f!, g: g! }, product)),
    op('reversibleBlock, one half', argument, (x, f, g) => reversibleBlock(pairOf(x!), { f: f!, g: g! }, product)[0]),
    op('reversibleBlock, the other half', argument, (x, f, g) => reversibleBlock(pairOf(x!), { f: f!, g: g! }, product)[1]),
    op('reversibleBlock in a checkpoint', argument, (x, f, g) =>
      checkpoint((z: Tensor, p: { f: Tensor; g: Tensor }) => tanh(reversibleBlock(z, p, product)))(x!, { f: f!, g: g! }),
    ),
    op('reversibleBlock of a checkpoint', argument, (x, f, g) =>
      reversibleBlock(x!, { f: f!, g: g! }, { f: checkpoint(product.f), g: product.g }),
    ),
    op('reversibleBlock with a gradient of its state', argument, (x, f, g) => {
      const { y, state } = reversibleBlock(
        x!,
        { f: f!, g: g! },
        { f: (u, w) => ({ y: product.f(u, w), state: mul(tanh(u), 2) }), g: product.g },
      );
      return [y, state.f];
    }),
    op('reversibleBlock of mobile inverted bottlenecks', [normal([2, 4, 5, 4])], (x) =>
      reversibleBlock(x!, { f: mobile(1), g: mobile(2) }, bottlenecks),
    ),
    op(
      'reversibleBlock in float16',
      argument.map(({ shape }) => normal(shape, 'float16')),
      (x, f, g) => reversibleBlock(x!, { f: f!, g: g! }, product),
      {
        order: 1,
        rtol: 4e-3,
        webgpu: false,
      },
    ),
    op('reversibleBlockInverse', argument, (x, f, g) => reversibleBlockInverse(x!, { f: f!, g: g! }, product)),
    op('reversibleSequence', argument, (x, f, g) =>
      reversibleSequence(
        x!,
        [f!, g!, f!].map((w) => ({ f: w, g: g! })),
        product,
      ),
    ),
    op('reversibleSequence of no blocks', [normal([3, 4])], (x) => reversibleSequence(x!, [], product)),
    op('reversibleSequence of nothing', [normal([0, 4]), normal([2, 2])], (x, w) => reversibleSequence(x!, [{ f: w!, g: w! }], product)),
  ],
  [
    op('reversibleSequence', [normal([400, 300]), normal([150, 150])], (x, w) =>
      reversibleSequence(
        x!,
        [0, 1].map(() => ({ f: w!, g: w! })),
        {
          f: (u, p) => tanh(matmul(mul(u, 0.1), p)),
          g: (u, p) => tanh(matmul(mul(u, 0.1), p)),
        },
      ),
    ),
  ],
);

const devices = await testDevices();
const layer = (u: Tensor, p: LinearParams) => tanh(linear(u, p));

type Running = Required<BatchNormState>;
type Normalised = { scale: ChannelParams; running: Running };

/** Running statistics and a dropout mask. */
function normalised(u: Tensor, { scale, running }: Normalised): { y: Tensor; state: Running } {
  const { y, state } = batchNorm(tanh(u), scale, running, { mode: 'train' });
  return { y: dropout(y, { rate: 0.3 }), state };
}

/** Losses of a few steps, and the running statistics after them. */
async function trained(backend: Backend, reversible: boolean): Promise<{ losses: number[]; state: readonly NDArray[] }> {
  const params = [0, 1, 2].map(() => ({ f: initBatchNorm(4).params, g: initBatchNorm(4).params }));
  const state = params.map(() => ({ f: initBatchNorm(4).state, g: initBatchNorm(4).state }));
  type P = Tensors<typeof params>;
  type S = Tensors<typeof state>;
  await using trainer = await createTrainer(backend, {
    params,
    state,
    seed: 3,
    optimizer: adam({ learningRate: 0.01 }),
    loss: (weights: P, x: Tensor, context: LossContext<S>) => {
      const blocks = weights.map(({ f, g }, i) => {
        const { f: first, g: second } = context.state[i] as S[number];
        return { f: { scale: f, running: first }, g: { scale: g, running: second } };
      });
      if (reversible) {
        const { y, state } = reversibleSequence(x, blocks, { f: normalised, g: normalised });
        return { loss: mseLoss(y, mul(x, 0.5)), state };
      }
      const states: { f: Running; g: Running }[] = [];
      let [y1, y2] = pairOf(x);
      for (const { f, g } of blocks) {
        const first = normalised(y2, f);
        y1 = add(y1, first.y);
        const second = normalised(y1, g);
        y2 = add(y2, second.y);
        states.push({ f: first.state, g: second.state });
      }
      return { loss: mseLoss(concat([y1, y2], { axis: 1 }), mul(x, 0.5)), state: states };
    },
  });
  const losses: number[] = [];
  for (let i = 0; i < 4; i++) losses.push((await trainer.step(normalArray(20 + i, [16, 8]))).loss);
  return { losses, state: (await trainer.state()).flatMap(({ f, g }) => [f, g].flatMap((own): NDArray[] => Object.values(own))) };
}

describe.each(devices)('reversible blocks on %s', (_, backend) => {
  it('train as plain ones do, with the same masks and state updated once', async () => {
    const [plain, reversible] = [await trained(backend, false), await trained(backend, true)];
    reversible.losses.forEach((loss, i) => {
      expect(Math.abs(loss - plain.losses[i]!)).toBeLessThan(1e-4 * plain.losses[i]!);
    });
    reversible.state.forEach((values, i) => {
      toNumbers(values).forEach((value, k) => {
        expect(Math.abs(value - toNumbers(plain.state[i]!)[k]!)).toBeLessThan(1e-5);
      });
    });
    expect(Math.max(...toNumbers(reversible.state[0]!).map(Math.abs))).toBeGreaterThan(1e-3);
  });

  const rng = createRng(2);
  const init = () => initLinear(rng, 16, 16);
  const blocks = (count: number) => Array.from({ length: count }, () => ({ f: init(), g: init() }));

  it('give back what went into ten of them to 1e-4', async () => {
    const x = normalArray(3, [8, 32]);
    const back = await run(
      backend,
      (z: Tensor, params: { f: LinearParams; g: LinearParams }[]) => {
        const functions = { f: layer, g: layer };
        return params.reduceRight((y, p) => reversibleBlockInverse(y, p, functions), reversibleSequence(z, params, functions));
      },
      x,
      blocks(10),
    );
    const error = Math.max(...toNumbers(back).map((value, i) => Math.abs(value - x.data[i]!)));
    expect(error).toBeLessThan(1e-4);
  });

  it('have the gradients of twenty plain ones to 1e-4', async () => {
    const results = await run(
      backend,
      (x: Tensor, params: { f: LinearParams; g: LinearParams }[]) => {
        const leaves = [x, ...params.flatMap(({ f, g }) => [f.weight, f.bias!, g.weight, g.bias!])];
        const functions = { f: layer, g: layer };
        const outputs = [
          params.reduce((h, p) => plainBlock(h, p, functions), x),
          params.reduce((h, p) => reversibleBlock(h, p, functions), x),
          reversibleSequence(x, params, functions),
        ];
        return outputs.map((y) => gradients(mean(square(y)), leaves));
      },
      normalArray(4, [8, 32]),
      blocks(20),
    );
    const [plain, ...others] = results.map((list) => list.flatMap(toNumbers)) as [number[], ...number[][]];
    const size = (values: readonly number[]) => Math.sqrt(values.reduce((a, b) => a + b * b, 0));
    for (const other of others) expect(size(other.map((g, i) => g - plain[i]!))).toBeLessThan(1e-4 * size(plain));
  });

  it('serve images and batches of any size with one session', async () => {
    const warn = vi.spyOn(console, 'warn');
    const params = [0, 1].map((i) => ({ f: initConv2d(createRng(i), 2, 2, 3), g: initConv2d(createRng(9 + i), 2, 2, 3) }));
    const convolve = (u: Tensor, p: ConvParams) => tanh(conv2d(u, p, { padding: 'same' }));
    await using both = compile(
      backend,
      (x: Tensor, p: { f: ConvParams; g: ConvParams }[]) => {
        const functions = { f: convolve, g: convolve };
        const outputs = [reversibleSequence(x, p, functions), p.reduce((h, own) => plainBlock(h, own, functions), x)];
        return outputs.map((y) => [y, ...gradients(mean(square(y)), [p[0]!.f.weight])]);
      },
      { axes: [['batch']] },
    );
    for (const size of [3, 5, 2]) {
      const [reversible, plain] = await both(normalArray(1, [size, 4, 5, 5]), params);
      reversible!.forEach((found, i) => {
        toNumbers(found).forEach((value, k) => {
          expect(Math.abs(value - toNumbers(plain![i]!)[k]!)).toBeLessThan(1e-5);
        });
      });
    }
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });
});

describe('reversible blocks', () => {
  type Params = { up: LinearParams; down: LinearParams };
  const wide = (u: Tensor, p: Params) => linear(tanh(linear(u, p.up)), p.down);
  const functions = { f: wide, g: wide };
  const parameters = (): Params => ({ up: { weight: leaf([16, 4]), bias: leaf([16]) }, down: { weight: leaf([4, 16]), bias: leaf([4]) } });

  /** The gradient of so many blocks as the runtime executes it. */
  const chain = (apply: (x: Tensor, params: { f: Params; g: Params }[]) => Tensor, count: number, reversed = false) => {
    const params = Array.from({ length: count }, () => ({ f: parameters(), g: parameters() }));
    const x = leaf([32, 8]);
    const leaves = params.flatMap(({ f, g }) => [f, g].flatMap(({ up, down }) => [up.weight, up.bias!, down.weight, down.bias!]));
    const slopes = gradients(mean(square(apply(x, params))), leaves);
    return optimized([x, ...leaves], reversed ? slopes.reverse() : slopes);
  };
  const plain = (x: Tensor, params: { f: Params; g: Params }[]) => params.reduce((h, p) => plainBlock(h, p, functions), x);
  const oneByOne = (x: Tensor, params: { f: Params; g: Params }[]) => params.reduce((h, p) => reversibleBlock(h, p, functions), x);
  const sequence = (x: Tensor, params: { f: Params; g: Params }[]) => reversibleSequence(x, params, functions);

  it('are computed again by the runtime, which merges nothing', async () => {
    const count = async (apply: typeof plain) => (await chain(apply, 5)).counts.Tanh;
    expect([await count(plain), await count(oneByOne), await count(sequence)]).toEqual([10, 20, 20]);
  });

  it.each([
    ['in the order of the parameters', false],
    ['in the reverse order', true],
  ])('need memory that does not grow with their number, whatever is returned first: %s', async (_, reversed) => {
    const size = 32 * 8;
    const peaks = async (apply: typeof plain) =>
      Promise.all([5, 20].map(async (count) => (await chain(apply, count, reversed)).peak / size)) as Promise<[number, number]>;
    const [few, many] = await peaks(sequence);
    expect(many).toBe(few);
    // One by one, a block leaves its result; plain, also the hidden values of both functions, four times as large.
    const [fewBlocks, manyBlocks] = await peaks(oneByOne);
    expect(manyBlocks - fewBlocks).toBeLessThanOrEqual(15 * 2);
    const [fewPlain, manyPlain] = await peaks(plain);
    expect(manyPlain - fewPlain).toBeGreaterThanOrEqual(15 * 4);
    expect(manyBlocks).toBeLessThan(0.5 * manyPlain);
  });

  it('compute no gradients that are not wanted', async () => {
    const products = async (apply: typeof plain) => {
      const [x, p] = [leaf([32, 8]), { f: parameters(), g: parameters() }];
      const leaves = [p.f, p.g].flatMap(({ up, down }) => [up.weight, up.bias!, down.weight, down.bias!]);
      const { counts } = await optimized([x, ...leaves], gradients(mean(square(apply(x, [p]))), [x]));
      return (counts.Gemm ?? 0) + (counts.MatMul ?? 0);
    };
    // Again: both products of g, for x2, and the first of f.
    expect(await products(sequence)).toBe((await products(plain)) + 3);
  });

  it('call their functions once per block', () => {
    const f = vi.fn((u: Tensor, w: Tensor) => mul(u, w));
    const [x, w] = [leaf([2, 4]), leaf([])];
    const params = [0, 1].map(() => ({ f: w, g: w }));
    const [dx] = gradients(sum(reversibleSequence(x, params, { f, g: f })), [x]) as [Tensor];
    gradients(sum(dx), [w]);
    expect(f).toHaveBeenCalledTimes(4);
  });

  it('return state where a function has it', () => {
    const running = { runningMean: leaf([2]), runningVar: leaf([2]), numBatchesTracked: leaf([], 'int32') };
    const p: Normalised = { scale: { weight: leaf([2]) }, running };
    const x = leaf([3, 4]);
    const stateless = (u: Tensor, own: Normalised) => normalised(u, own).y;
    const one = reversibleBlock(x, { f: p, g: p }, { f: stateless, g: normalised });
    const state: Running = one.state.g;
    expect([one.y.shape, Object.keys(one.state), state.runningMean.shape]).toEqual([[3, 4], ['g'], [2]]);
    const both = reversibleSequence(pairOf(x), [{ f: p, g: p }], { f: normalised, g: normalised });
    const [first]: Tensor[] = both.y;
    expect([first?.shape, both.state.map(({ f, g }) => [f.runningVar.shape, g.runningMean.shape])]).toEqual([[3, 2], [[[2], [2]]]]);
    const none: Tensor = reversibleSequence(x, [{ f: p, g: p }], { f: stateless, g: stateless });
    expect(none.shape).toEqual([3, 4]);
  });

  it('are ordinary parts of an exported model', () => {
    const params = { f: normalArray(1, [2, 2]), g: normalArray(2, [2, 2]) };
    const model = (apply: (x: Tensor, p: { f: Tensor; g: Tensor }) => Tensor) =>
      exportOnnx((p: { f: Tensor; g: Tensor }, x: Tensor) => apply(x, p), params, filled([1, 4], 0));
    expect(model((x, p) => reversibleBlock(x, p, product))).toEqual(model((x, p) => plainBlock(x, p, product)));
  });

  const w = leaf([], 'float32', 'params.w');
  const params = { f: {}, g: {} };
  const same = { f: (u: Tensor) => u, g: (u: Tensor) => u };
  it.each<[string, () => unknown, string]>([
    [
      'an odd number of channels',
      () => reversibleBlock(leaf([2, 3]), params, same),
      'reversibleBlock: x: expected a Tensor [N, C, ...] with an even C, received float32[2, 3]',
    ],
    [
      'a vector',
      () => reversibleSequence(leaf([4]), [params], same),
      'reversibleSequence: x: expected a Tensor [N, C, ...] with an even C, received float32[4]',
    ],
    [
      'integers',
      () => reversibleBlock(leaf([2, 4], 'int32'), params, same),
      'reversibleBlock: x: expected a float32 or float16 Tensor, received int32[2, 4]',
    ],
    [
      'halves of different shapes',
      () => reversibleBlock([leaf([2, 2]), leaf([2, 3])], params, same),
      'reversibleBlock: x[1]: expected float32[2, 2], like x[0], received float32[2, 3]',
    ],
    [
      'three parts',
      () => reversibleBlock([leaf([2]), leaf([2]), leaf([2])] as never, params, same),
      'reversibleBlock: x: expected a Tensor or a pair of Tensors, received [float32[2], float32[2], float32[2]]',
    ],
    [
      'a function that changes the shape',
      () => reversibleBlock(leaf([2, 4]), params, { f: (u) => sum(u), g: (u) => u }),
      'reversibleBlock: f: expected a value like its input, float32[2, 2], so that it can be added, received float32[]',
    ],
    [
      'a function that changes the shape, in the inverse',
      () => reversibleBlockInverse(leaf([2, 4]), params, { f: (u) => u, g: (u) => sum(u) }),
      'reversibleBlockInverse: g: expected a value like its input, float32[2, 2], so that it can be added, received float32[]',
    ],
    [
      'a value without its state',
      () => reversibleBlock(leaf([2, 4]), params, { f: (u) => ({ y: u }) as never, g: (u) => u }),
      "reversibleBlock: f: expected a Tensor or { y, state } as its value, received an object with keys 'y'",
    ],
    [
      'a captured parameter',
      () => reversibleBlock(leaf([2, 4]), params, { f: (u) => mul(u, w), g: (u) => u }),
      "customVjp 'reversibleBlock': the forward body uses 'params.w', which is not among its inputs, so its gradient would silently be zero; pass it as an input, or through stopGradient()",
    ],
    [
      'no function',
      () => reversibleBlock(leaf([2, 4]), params, { f: same.f } as never),
      'reversibleBlock: functions.g: expected a function, received undefined',
    ],
    [
      'other parameters',
      () => reversibleBlock(leaf([2, 4]), { ...params, h: {} } as never, same),
      "reversibleBlock: params: unknown parameter 'h'; expected { f, g }",
    ],
    [
      'missing parameters',
      () => reversibleBlock(leaf([2, 4]), { f: {} } as never, same),
      'reversibleBlock: g: expected a tree of Tensors as the parameters of block 0, received undefined',
    ],
    [
      'a sequence without a list',
      () => reversibleSequence(leaf([2, 4]), params as never, same),
      "reversibleSequence: params: expected a list of { f, g }, received an object with keys 'f', 'g'",
    ],
  ])('refuse %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
