import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  add,
  arange,
  argMax,
  broadcastTo,
  cast,
  concat,
  constant,
  customVjp,
  type DType,
  div,
  exp,
  expandDims,
  gelu,
  greater,
  type HostCompute,
  hostInput,
  logSumExp,
  matmul,
  mean,
  mul,
  pow,
  prod,
  type Shape,
  type Spec,
  slice,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  transpose,
  where,
} from '../../../src/index.js';
import { adamw, type Named } from '../../../src/optim/index.js';
import { createKernels, planUpdate } from '../../../src/runtime/kernels/index.js';
import { optimizerStep, planStep, type Step, traceStep } from '../../support/kernels.js';
import { leaf } from '../../support/leaves.js';

const spec = (shape: Shape, dtype: DType = 'float32'): Spec => ({ shape, dtype });

describe('there is no plan', () => {
  const inputs = {
    x: spec([3, 4]),
    row: spec([4]),
    square: spec([4, 4]),
    long: spec([12]),
    s: spec([]),
    half: spec([12], 'float16'),
    halfNumber: spec([], 'float16'),
    ints: spec([12], 'int32'),
    mask: spec([12], 'bool'),
    i: spec([], 'int32'),
    empty: spec([0]),
  };
  const squared = customVjp<[Tensor]>('squared', { forward: (x) => ({ outputs: [matmul(x, x)] }), backward: ({ cotangents: [g] }) => [g] });
  const cases: Record<string, Step> = {
    'for a matrix product': ({ square }) => ({ next: { square: matmul(square!, square!) } }),
    'for sums of rows': ({ x }) => ({ next: { x: sub(x!, mean(x!, { axis: 1, keepDims: true })) } }),
    'for sums of columns': ({ x, row }) => ({ next: { row: add(row!, sum(x!, { axis: 0 })) } }),
    'for a softmax': ({ row }) => ({ next: { row: softmax(row!) } }),
    'for logSumExp': ({ x, s }) => ({ next: { s: add(s!, logSumExp(x!)) } }),
    'for a product of all elements': ({ x, s }) => ({ next: { s: add(s!, prod(x!)) } }),
    'for argMax': ({ row, i }) => ({ next: { i: add(i!, argMax(row!)) } }),
    'for a repeated row': ({ x, row }) => ({ next: { x: add(x!, row!) } }),
    'for two repeated arrays': ({ x, row, long }) => ({ next: { long: add(long!, sum(mul(x!, broadcastTo(row!, [3, 4])))) } }),
    'for an array repeated to another': ({ row }) => ({ next: { square: broadcastTo(expandDims(row!, 1), [4, 4]) } }),
    'for a transposition': ({ square }) => ({ next: { square: add(square!, transpose(square!)) } }),
    'for a part of an array': ({ long, s }) => ({ next: { s: add(s!, sum(slice(long!, [0], [5]))) } }),
    'for joined arrays': ({ x, row }) => ({ next: {}, values: { total: sum(concat([row!, row!, sum(x!, { axis: 0 })])) } }),
    'for exponentials of arrays': ({ x }) => ({ next: { x: exp(x!) } }),
    'for powers of arrays': ({ x }) => ({ next: { x: pow(x!, 1.5) } }),
    'for functions of numbers that there are no rules for': ({ s }) => ({ next: { s: gelu(s!) } }),
    'for arrays of constants': ({ row }) => ({ next: { row: mul(row!, constant([1, 2, 3, 4])) } }),
    'for counted arrays': ({ row }) => ({ next: { row: add(row!, arange(4, 'float32')) } }),
    'for host inputs of several elements': ({ row }) => ({
      next: {
        row: add(
          row!,
          hostInput(() => [1, 2, 3, 4], { shape: [4] }),
        ),
      },
    }),
    'for a customVjp of a matrix product': ({ square }) => ({ next: { square: squared(square!)[0]! } }),
    'for float16': ({ half }) => ({ next: { half: mul(half!, 2) } }),
    'for a number of float16': ({ halfNumber }) => ({ next: { halfNumber: mul(halfNumber!, 2) } }),
    'for sums in float16': ({ x, s }) => ({ next: { s: add(s!, cast(cast(sum(x!), 'float16'), 'float32')) } }),
    'for arrays of int32': ({ ints }) => ({ next: { ints: add(ints!, 1) } }),
    'for constant arrays of int32': () => ({ next: { ints: mul(cast(broadcastTo(constant(1), [12]), 'int32'), 1) } }),
    'for arrays rounded to int32': ({ long }) => ({ next: { long: cast(cast(long!, 'int32'), 'float32') } }),
    'for masks that are inputs': ({ mask, long }) => ({ next: { long: where(mask!, long!, 0) } }),
    'for masks that are outputs': ({ long }) => ({ next: { mask: greater(long!, 0) } }),
    'for a Tensor of another trace': ({ s }) => ({ next: { s: add(s!, leaf()) } }),
    'for a new value of another size': ({ x }) => ({ next: { long: add(x!, 1), row: broadcastTo(constant(1), [5]) } }),
    'for a new value of another dtype': ({ s }) => ({ next: { i: mul(s!, 2) } }),
    'for values of several elements': ({ row }) => ({ next: {}, values: { row: row! } }),
    'for values without elements': ({ empty }) => ({ next: {}, values: { empty: empty! } }),
  };

  it.each(Object.entries(cases))('%s', (_, step) => {
    expect(planUpdate(traceStep(inputs, step))).toBeUndefined();
  });

  it('but there is one for such inputs that are not used', () => {
    expect(planUpdate(traceStep(inputs, ({ x, half }) => ({ next: { x: mul(x!, 2), half: half! } })))?.phases).toHaveLength(1);
  });

  it('but there is one for what nobody needs', () => {
    const step: Step = ({ x, s }) => {
      matmul(x!, transpose(x!));
      return { next: { s: sum(x!, { axis: [0, 1], keepDims: true }), x: div(x!, s!) } };
    };
    expect(planUpdate(traceStep(inputs, step))).toBeDefined();
  });
});

describe('a plan', () => {
  it('has host inputs in the order of the trace, of outputs before values', () => {
    const computes = Array.from(
      { length: 4 },
      (_, i): HostCompute =>
        () =>
          i,
    ) as [HostCompute, HostCompute, HostCompute, HostCompute];
    const step: Step = ({ x, s }) => {
      const [a, b, c, d] = computes.map((compute) => hostInput(compute)) as [Tensor, Tensor, Tensor, Tensor];
      return { next: { s: mul(s!, d), x: mul(add(x!, b), sub(a, d)) }, values: { c: sqrt(c) } };
    };
    const { hostInputs } = planStep({ x: spec([3]), s: spec([]) }, step);
    expect(hostInputs.map(({ compute }) => computes.indexOf(compute))).toEqual([3, 1, 0, 2]);
    expect(hostInputs.map(({ shape, dtype }) => [shape, dtype])).toEqual(Array(4).fill([[], 'float32']));
    expect(hostInputs.every(({ tensor, compute }) => (tensor.node.attributes as { compute: HostCompute }).compute === compute)).toBe(true);
  });

  it('groups inputs whose elements meet, and those that get the elements of others', () => {
    const array = spec([5]);
    const inputs = { a: array, b: array, c: array, d: array, e: array, f: array, s: spec([]) };
    const step: Step = ({ a, b, d, e, s }) => ({ next: { a: add(a!, b!), c: d!, e: mul(e!, s!), s: sum(mul(e!, 2)) } });
    expect(planStep(inputs, step).groups).toEqual([[0, 1], [2, 3], [4], [5], [6]]);
  });

  it('reads an array once per loop, and computes nothing twice', () => {
    const step: Step = ({ x, g }) => {
      const norm = sqrt(sum(square(g!)));
      return { next: { x: sub(x!, div(mul(square(g!), 2), norm)), g: mul(mul(g!, g!), 2) } };
    };
    const { phases } = planStep({ x: spec([5]), g: spec([5]) }, step);
    const written = phases.map(({ loops }) => loops.map(({ code }) => code.instructions.map(({ name }) => name)));
    expect(written).toEqual([[['load', 'mul']], [['load', 'load', 'mul', 'scalar', 'mul', 'scalar', 'mul', 'sub']]]);
  });
});

describe('kernels', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** Number of functions of every module that is compiled for a plan. */
  async function functionsOf(inputs: Record<string, Spec>, step: Step): Promise<number[]> {
    const compile = vi.spyOn(WebAssembly, 'compile');
    const kernels = await createKernels(planStep(inputs, step));
    expect(kernels.compiled).toBe(true);
    return Promise.all(compile.mock.results.map(async ({ value }) => WebAssembly.Module.exports(await value).length));
  }

  const names = Array.from({ length: 100 }, (_, i) => `w${i}`);
  const each = (prefix: string) => Object.fromEntries(names.map((name, i) => [prefix + name, spec([2 + i, 3])]));
  const inputs = { ...each(''), ...each('m.'), ...each('v.'), step: spec([], 'int32'), ...each('grad.') };

  it('are shared by all tensors that are treated alike', async () => {
    // And another that divides where numbers have no reciprocals.
    expect(await functionsOf(inputs, optimizerStep(adamw(), names))).toEqual([2]);
  });

  it('differ where the treatment differs', async () => {
    const masked = adamw({ weightDecayMask: (_, [rows]) => rows! % 2 === 0 });
    expect(await functionsOf(inputs, optimizerStep(masked, names))).toEqual([4]);
  });

  it('are shared by tensors with different numbers', async () => {
    const step: Step = (inputs: Named) => ({
      next: Object.fromEntries(names.map((name, i) => [name, mul(sub(inputs[name]!, mean(inputs[name]!)), i + 2)])),
    });
    expect(await functionsOf(each(''), step)).toEqual([2]);
  });
});
