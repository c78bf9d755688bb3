import { describe, expect, it, vi } from 'vitest';
import { waitFor } from '../../src/core/checkpoint.js';
import {
  add,
  array,
  type Backend,
  checkpoint,
  compile,
  createRng,
  exp,
  exportOnnx,
  filled,
  gather,
  gradients,
  hostInput,
  matmul,
  mean,
  mul,
  relu,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  type Tensors,
  tanh,
  toNumbers,
  transpose,
} from '../../src/index.js';
import { dropout, initLinear, type LinearParams, linear } from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { adam } from '../../src/optim/index.js';
import { createTrainer } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { given, integers, normal } from '../support/draw.js';
import { leaf, numbersOf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { optimized } from '../support/optimized.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { op, testOps } from '../support/test-ops.js';

type Block = { up: LinearParams; down: LinearParams };
const block = (p: Block, x: Tensor): Tensor => add(x, linear(tanh(linear(x, p.up)), p.down));

const dense = checkpoint((p: { w: Tensor }, x: Tensor) => tanh(matmul(tanh(x), p.w)));
const twice = checkpoint((x: Tensor, w: Tensor) => dense({ w }, dense({ w }, x)));
const several = checkpoint((x: Tensor, y: Tensor) => ({ product: mul(exp(x), y), rest: [sub(x, y), x] as const }));
const masked = checkpoint((x: Tensor, mask: Tensor) => mul(exp(x), stopGradient(add(square(x), mask))));
const rows = checkpoint((table: Tensor, indices: Tensor) => gather(square(table), indices));

testOps(
  {},
  [
    op('checkpoint', [normal([3, 2]), normal([2, 2])], (x, w) => dense({ w: w! }, x!)),
    op('checkpoint of a checkpoint', [normal([3, 2]), normal([2, 2])], (x, w) => twice(x!, w!)),
    op('checkpoint in a row', [normal([3, 2]), normal([2, 2])], (x, w) => [0, 1, 2].reduce((h) => dense({ w: w! }, h), x!)),
    op('checkpoint with several outputs', [normal([3]), normal([2, 3])], (x, y) => {
      const { product, rest } = several(exp(x!), y!);
      return [product, ...rest];
    }),
    op('checkpoint with an unused output', [normal([3]), normal([3])], (x, y) => several(x!, y!).product),
    op('checkpoint that returns its input', [normal([3]), normal([3])], (x, y) => several(x!, y!).rest[1]),
    op('checkpoint of the same Tensor twice', [normal([3])], (x) => several(x!, x!).product),
    op('checkpoint with integers', [normal([3, 2]), integers([4], 0, 2)], (table, indices) => rows(table!, indices!)),
    op('checkpoint of nothing', [normal([0, 2]), normal([2, 2])], (x, w) => dense({ w: w! }, x!)),
    op('checkpoint that stops gradients', [normal([3]), given([3], [1, 0, 2])], (x, mask) => masked(x!, mask!), { order: 0 }),
    op('checkpoint in float16', [normal([3, 2], 'float16'), normal([2, 2], 'float16')], (x, w) => dense({ w: w! }, x!), {
      order: 1,
      rtol: 4e-3,
      webgpu: false,
    }),
  ],
  [
    op('checkpoint', [normal([400, 300]), normal([300, 2])], (x, w) =>
      checkpoint((y: Tensor) => tanh(matmul(tanh(y), stopGradient(w!))))(x!),
    ),
  ],
);

const devices = await testDevices();

/** Losses of a few training steps of blocks. */
async function trained(backend: Backend, apply: (p: Block, x: Tensor) => Tensor): Promise<number[]> {
  const rng = createRng(1);
  const params = Array.from({ length: 4 }, () => ({ up: initLinear(rng, 6, 12), down: initLinear(rng, 12, 6) }));
  const network = (blocks: Tensors<typeof params>, x: Tensor) => blocks.reduce((h, p) => dropout(apply(p, h), { rate: 0.1 }), x);
  await using trainer = await createTrainer(backend, {
    params,
    optimizer: adam({ learningRate: 0.01 }),
    loss: (p: Tensors<typeof params>, { x, y }: { x: Tensor; y: Tensor }) => mseLoss(network(p, x), y),
  });
  const losses: number[] = [];
  for (let i = 0; i < 4; i++) losses.push((await trainer.step({ x: normalArray(i, [8, 6]), y: filled([8, 6], 0.5) })).loss);
  return losses;
}

describe.each(devices)('checkpoint on %s', (_, backend) => {
  it('trains as its function does', async () => {
    const plain = await trained(backend, block);
    const checkpointed = await trained(backend, checkpoint(block));
    checkpointed.forEach((loss, i) => {
      expect(Math.abs(loss - plain[i]!)).toBeLessThan(1e-5 * plain[i]!);
    });
  });

  it('has the same mask when it computes again', async () => {
    const noisy = checkpoint((x: Tensor) => square(dropout(x, { rate: 0.5 })));
    const { y, dx } = await run(
      backend,
      (x: Tensor) => {
        const y = noisy(x);
        return { y, dx: gradients(sum(y), [x])[0]! };
      },
      normalArray(1, [500]),
    );
    // y = (m x)^2 and dy/dx = 2 m^2 x.
    const x = toNumbers(normalArray(1, [500]));
    toNumbers(dx).forEach((found, i) => {
      expect(found * x[i]!).toBeCloseTo(2 * toNumbers(y)[i]!, 3);
    });
    expect(toNumbers(y).filter((v) => v === 0).length).toBeGreaterThan(200);
  });

  it('serves batches of any size with one session', async () => {
    const warn = vi.spyOn(console, 'warn');
    const slope = (x: Tensor, w: Tensor) => gradients(mean(twice(x, w)), [w])[0]!;
    const [x, w] = [leaf([3, 2]), leaf([2, 2])];
    const [expected] = numbersOf(
      [slope(x, w)],
      [
        [x, Array(6).fill(1)],
        [w, Array(4).fill(0.5)],
      ],
    ) as [number[]];
    await using compiled = compile(backend, slope, { axes: [['batch']] });
    for (const size of [3, 5, 2])
      expectClose('slope', toNumbers(await compiled(filled([size, 2], 1), filled([2, 2], 0.5))), expected, 1e-5);
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });

  it('waits for values without taking them up', async () => {
    const values = [1.5, -0, 0, 3e38, -1e-30];
    const signals = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3];
    const results = await run(
      backend,
      (x: Tensor, s: Tensor[]) => [...s.map((signal) => waitFor(x, [signal])), waitFor(x, s)],
      array(values),
      signals.map((value) => array([[value, 1]])),
    );
    for (const { data } of results) expect(Object.is((data as Float32Array)[1], -0) && [...data].join()).toBe(array(values).data.join());
  });
});

describe('checkpoint', () => {
  const parameters = (): Block => ({ up: { weight: leaf([8, 4]), bias: leaf([8]) }, down: { weight: leaf([4, 8]), bias: leaf([4]) } });

  /** The gradient of a chain of blocks as the runtime executes it. */
  const chain = (apply: typeof block, count: number, reversed = false) => {
    const params = Array.from({ length: count }, parameters);
    const x = leaf([16, 4]);
    const leaves = params.flatMap(({ up, down }) => [up.weight, up.bias!, down.weight, down.bias!]);
    const slopes = gradients(mean(square(params.reduce((h, p) => apply(p, h), x))), leaves);
    return optimized([x, ...leaves], reversed ? slopes.reverse() : slopes);
  };

  it('is computed again by the runtime, which merges nothing', async () => {
    const [plain, checkpointed] = [await chain(block, 6), await chain(checkpoint(block), 6)];
    expect(plain.counts.Tanh).toBe(6);
    expect(checkpointed.counts.Tanh).toBe(12);
    // The second product of a block is not computed again: nothing needs its value.
    expect(checkpointed.counts.Gemm! + (checkpointed.counts.MatMul ?? 0)).toBe(plain.counts.Gemm! + (plain.counts.MatMul ?? 0) + 6);
  });

  it.each([
    ['in the order of the parameters', false],
    ['in the reverse order', true],
  ])('keeps the inputs of a chain, whatever is returned first: %s', async (_, reversed) => {
    const size = 16 * 4;
    const peaks = [10, 30].map((count) => chain(checkpoint(block), count, reversed));
    const [ten, thirty] = await Promise.all(peaks.map(async (found) => (await found).peak / size));
    expect(thirty! - ten!).toBeLessThanOrEqual(20);
    // Plain, a block holds at least its hidden values, twice the size of x, and its own.
    const plain = await Promise.all([10, 30].map(async (count) => (await chain(block, count, reversed)).peak / size));
    expect(plain[1]! - plain[0]!).toBeGreaterThanOrEqual(60);
    expect(thirty).toBeLessThan(0.5 * plain[1]!);
  });

  it('computes again also where the cotangent is a constant', async () => {
    const x = leaf([5]);
    const { counts } = await optimized([x], gradients(sum(checkpoint((z: Tensor) => exp(tanh(z)))(x)), [x]));
    const { counts: both } = await optimized(
      [x],
      [checkpoint((z: Tensor) => exp(tanh(z)))(x), ...gradients(sum(checkpoint((z: Tensor) => exp(tanh(z)))(x)), [x])],
    );
    expect([counts.Tanh, both.Tanh]).toEqual([1, 2]);
  });

  it('computes no gradients that are not wanted', async () => {
    const p = parameters();
    const x = leaf([16, 4]);
    const leaves = [p.up.weight, p.up.bias!, p.down.weight, p.down.bias!];
    const products = async (apply: typeof block) => {
      const { counts } = await optimized([x, ...leaves], gradients(mean(square(apply(p, exp(x)))), [x]));
      return (counts.Gemm ?? 0) + (counts.MatMul ?? 0);
    };
    expect(await products(checkpoint(block))).toBe((await products(block)) + 1);
  });

  it('returns state of the first pass, and does not compute it again', async () => {
    const stateful = (x: Tensor, running: Tensor) => ({ y: tanh(exp(x)), state: add(mul(running, 0.9), mul(mean(relu(x)), 0.1)) });
    const [x, running] = [leaf([4]), leaf([])];
    const { y, state } = checkpoint(stateful)(x, running);
    const [dx] = gradients(sum(y), [x]) as [Tensor];
    const values = [
      [x, [1, -1, 2, 1]],
      [running, [2]],
    ] as const;
    expect(numbersOf([state], values)[0]?.[0]).toBeCloseTo(1.9, 10);
    const { counts } = await optimized([x, running], [state, dx]);
    expect([counts.Relu, counts.Exp]).toEqual([1, 1]);
    // Where something does depend on it, it has a gradient.
    expect(numbersOf(gradients(state, [running, x]), values).map((g) => g.map((v) => Math.round(1000 * v)))).toEqual([
      [900],
      [25, 0, 25, 25],
    ]);
  });

  it('is an ordinary part of an exported model', async () => {
    const w = normalArray(1, [2, 2]);
    const model = (apply: typeof dense) => exportOnnx((p: { w: Tensor }, x: Tensor) => apply(p, x), { w }, filled([1, 2], 0));
    expect(model(dense)).toEqual(model((p, x) => tanh(matmul(tanh(x), p.w))));
  });

  it('calls its function once', () => {
    const fn = vi.fn((x: Tensor) =>
      exp(
        mul(
          x,
          hostInput(() => 2),
        ),
      ),
    );
    const x = leaf([2]);
    const [dx] = gradients(sum(checkpoint(fn)(x)), [x]) as [Tensor];
    gradients(sum(dx), [x]);
    expect(fn).toHaveBeenCalledTimes(1);
  });

  it.each<[string, () => unknown, string]>([
    [
      'a captured parameter',
      () => {
        const w = leaf([2, 2], 'float32', 'params.w');
        return checkpoint((x: Tensor) => matmul(x, transpose(w)))(leaf([3, 2]));
      },
      "customVjp 'checkpoint': the forward body uses 'params.w', which is not among its inputs, so its gradient would silently be zero; pass it as an input, or through stopGradient()",
    ],
    ['something other than a function', () => checkpoint(3 as never), 'checkpoint: fn: expected a function, received 3'],
    [
      'an argument that is no Tensor',
      () => checkpoint((x: Tensor, _training: boolean) => x)(leaf([2]), true),
      'checkpoint: 1: expected a tree of Tensors as the arguments, received true',
    ],
    [
      'a result that is no Tensor',
      () => checkpoint((_: Tensor) => 3)(leaf([2])),
      'checkpoint: value: expected a tree of Tensors as the result of fn, received 3',
    ],
  ])('refuses %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
