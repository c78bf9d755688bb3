import { isFloat } from '../../src/core/dtype.js';
import {
  add,
  array,
  type Backend,
  cast,
  constant,
  createRng,
  gradients,
  mul,
  type NDArray,
  type Shape,
  sum,
  type Tensor,
  toNumbers,
} from '../../src/index.js';
import { expectClose, scaleOf } from '../support/close.js';
import { checkGradient } from '../support/differences.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals, numericGradient, sizeOf } from '../support/numeric.js';
import { fromArray } from '../support/reference.js';
import { run } from '../support/run.js';

export type Numbers = readonly number[];
/** Numbers by the name of the argument or result that they are the elements of. */
export type Named = Readonly<Record<string, Numbers>>;
type Traced = Readonly<Record<string, Tensor>>;

/** A layer and what it is by definition. */
export interface Layer {
  readonly inputs: Readonly<Record<string, NDArray>>;
  readonly layer: (inputs: Traced) => Traced;
  /** In float64. What the gradient takes for a constant is computed from `fixed`: the inputs where they are not moved. */
  readonly definition: (inputs: Named, fixed: Named) => Named;
}

/** One shape for every rank that images have. */
export const imageShapes: readonly Shape[] = [
  [6, 3],
  [3, 2, 5],
  [2, 3, 2, 3],
  [2, 2, 2, 1, 3],
];

/** With and without each of the parameters. */
export const affinePairs: readonly (readonly string[])[] = [[], ['weight'], ['bias'], ['weight', 'bias']];

/** Every shape with every choice of parameters. */
export const images = imageShapes.flatMap((shape) => affinePairs.map((names) => ({ shape, names })));

/** Values of the arguments `names` of a layer on an image; variances and deviations are positive. */
export function drawInputs(shape: Shape, names: readonly string[], size = shape[1] as number): Record<string, NDArray> {
  const draw = (name: string, seed: number): NDArray =>
    name === 'runningVar' || name === 'runningStd'
      ? array(
          normals(seed, size).map((v) => 0.5 + Math.abs(v)),
          { shape: [size] },
        )
      : normalArray(seed, [size]);
  return { x: normalArray(1, shape), ...Object.fromEntries(names.map((name, i) => [name, draw(name, 2 + i)])) };
}

/** Those of `names` that are there. */
export function pick<T, K extends string>(from: Readonly<Record<string, T>>, ...names: readonly K[]): { [key in K]?: T } {
  return Object.fromEntries(names.flatMap((name) => (name in from ? [[name, from[name]]] : []))) as { [key in K]?: T };
}

const floatNames = (tensors: Traced): string[] => Object.keys(tensors).filter((name) => isFloat((tensors[name] as Tensor).dtype));

/** The weights of elements in the scalar that is differentiated. */
const cotangents = (shape: Shape, output: number): NDArray => normalArray(100 + output, shape);

/** A sum of all float outputs with a weight for every element. */
const weighted = (outputs: Traced): Tensor =>
  floatNames(outputs)
    .map((name, i) => {
      const y = outputs[name] as Tensor;
      return sum(mul(cast(y, 'float32'), constant(cotangents(y.shape, i))));
    })
    .reduce((a, b) => add(a, b));

const numbersOf = (arrays: Readonly<Record<string, NDArray>>): Record<string, number[]> =>
  Object.fromEntries(Object.entries(arrays).map(([name, value]) => [name, toNumbers(value)]));

/** Compares the results of a layer with its definition, and the gradients of all of its arguments with differences of that. */
export async function check(
  backend: Backend,
  { inputs, layer, definition }: Layer,
  { values = 1e-5, slopes = 1e-4 }: { values?: number; slopes?: number } = {},
): Promise<void> {
  const wrt = Object.keys(inputs).filter((name) => isFloat((inputs[name] as NDArray).dtype));
  let order: string[] = [];
  const { outputs, back } = await run(
    backend,
    (given: Traced) => {
      const outputs = layer(given);
      order = floatNames(outputs);
      return {
        outputs,
        back: gradients(
          weighted(outputs),
          wrt.map((name) => given[name] as Tensor),
        ),
      };
    },
    inputs as never,
  );
  const fixed = numbersOf(inputs);
  const expected = definition(fixed, fixed);
  if (Object.keys(expected).join() !== Object.keys(outputs).join()) {
    throw new Error(`the layer returns ${Object.keys(outputs)}, the definition ${Object.keys(expected)}`);
  }
  for (const [name, value] of Object.entries(outputs)) expectClose(name, toNumbers(value as NDArray), expected[name] as Numbers, values);
  const weights = order.map((name, i) => toNumbers(cotangents((outputs[name] as NDArray).shape, i)));
  const total = (moved: Named): number => {
    const results = definition(moved, fixed);
    return order.reduce((all, name, i) => all + dot(results[name] as Numbers, weights[i] as Numbers), 0);
  };
  wrt.forEach((name, i) => {
    const slope = numericGradient((v) => total({ ...fixed, [name]: v }), fixed[name] as Numbers);
    // No gradient passes running statistics: that is 0, where others may be what rounding leaves of terms that cancel.
    const least = name.startsWith('running') ? 0 : 0.05;
    expectClose(`gradient of ${name}`, toNumbers(back[i] as NDArray), slope, slopes, Math.max(least, scaleOf(slope)));
  });
}

/** Compares first and second derivatives of a layer with differences, all in float64. */
export function checkDerivatives(layer: (inputs: Traced) => Traced, inputs: Readonly<Record<string, NDArray>>): void {
  const leaves = Object.fromEntries(Object.entries(inputs).map(([name, { shape, dtype }]) => [name, leaf(shape, dtype, name)]));
  const values = new Map(Object.entries(inputs).map(([name, value]) => [leaves[name] as Tensor, fromArray(value)]));
  const wrt = floatNames(leaves).map((name) => leaves[name] as Tensor);
  const loss = weighted(layer(leaves));
  const first = gradients(loss, wrt);
  const slopes = weighted(Object.fromEntries(first.map((g, i) => [String(i), g])));
  const rng = createRng(3);
  checkGradient(loss, first, wrt, values, rng);
  checkGradient(slopes, gradients(slopes, wrt), wrt, values, rng);
}

export const dot = (a: Numbers, b: Numbers): number => a.reduce((total, v, i) => total + v * (b[i] as number), 0);
export const average = (values: Numbers): number => values.reduce((a, b) => a + b, 0) / values.length;

/** The number of something that an element belongs to, by its index in row-major order. */
export type Membership = (index: number) => number;

/** The channel of every element of `[N, C, ...]`. */
export const channelOf = (shape: Shape): Membership => {
  const positions = sizeOf(shape.slice(2));
  return (index) => Math.floor(index / positions) % (shape[1] as number);
};

/** The sample of every element of `[N, C, ...]`. */
export const sampleOf = (shape: Shape): Membership => {
  const elements = sizeOf(shape.slice(1));
  return (index) => Math.floor(index / elements);
};

/** The channel of every element, within the part of the batch that its sample is in. */
export const partOf = (shape: Shape, part: Membership): Membership => {
  const [channel, sample] = [channelOf(shape), sampleOf(shape)];
  return (index) => part(sample(index)) * (shape[1] as number) + channel(index);
};

export interface Moments {
  readonly mean: Numbers;
  /** Of the population. */
  readonly variance: Numbers;
  readonly count: Numbers;
}

/** Mean and variance of the groups 0, 1, ... of elements. */
export function moments(x: Numbers, group: Membership): Moments {
  const members: number[][] = [];
  x.forEach((v, i) => {
    const k = group(i);
    members[k] ??= [];
    members[k].push(v);
  });
  const mean = members.map(average);
  return {
    mean,
    variance: members.map((values, k) => average(values.map((v) => (v - (mean[k] as number)) ** 2))),
    count: members.map((values) => values.length),
  };
}

/** `(x - mean) / sqrt(variance + eps)` */
export const normalized = (x: Numbers, group: Membership, { mean, variance }: Pick<Moments, 'mean' | 'variance'>, eps: number): number[] =>
  x.map((v, i) => (v - (mean[group(i)] as number)) / Math.sqrt((variance[group(i)] as number) + eps));

/** `x * weight + bias` with a number per channel, or whatever `of` gives. */
export const transformed = (
  x: Numbers,
  of: Membership,
  { weight, bias }: { weight?: Numbers | undefined; bias?: Numbers | undefined },
): number[] => x.map((v, i) => v * (weight?.[of(i)] ?? 1) + (bias?.[of(i)] ?? 0));

/** A layer that normalises groups of elements by their own statistics, scales them and shifts them. */
export interface GroupLayer {
  readonly layer: (x: Tensor, params: { weight: Tensor; bias: Tensor }) => Tensor;
  readonly group: Membership;
  /** Which number of the weight and of the bias is for an element. */
  readonly channel: Membership;
  /** Shape of weight and bias. */
  readonly params: Shape;
}

/** Compares such a layer, with eps 1e-5, and its gradients in closed form. Errors are relative to the size of normal values. */
export async function checkGroups(backend: Backend, x: NDArray, { layer, group, channel, params }: GroupLayer, rtol = 1e-5): Promise<void> {
  const inputs = { x, weight: normalArray(2, params), bias: normalArray(3, params), g: normalArray(4, x.shape) };
  const outputs = await run(
    backend,
    ({ x: input, weight, bias, g }: { [key in keyof typeof inputs]: Tensor }) => {
      const y = layer(input, { weight, bias });
      const [dx, dWeight, dBias] = gradients(sum(mul(y, g)), [input, weight, bias]) as [Tensor, Tensor, Tensor];
      return { y, dx, dWeight, dBias };
    },
    inputs,
  );
  const [values, weight, bias, g] = [x, inputs.weight, inputs.bias, inputs.g].map(toNumbers) as [number[], number[], number[], number[]];
  const stats = moments(values, group);
  const rstd = stats.variance.map((v) => 1 / Math.sqrt(v + 1e-5));
  const normal = normalized(values, group, stats, 1e-5);
  const h = g.map((v, i) => v * (weight[channel(i)] as number));
  const means = (of: Numbers) => moments(of, group).mean;
  const [constant, along] = [means(h), means(h.map((v, i) => v * (normal[i] as number)))];
  const totals = (of: Numbers) => weight.map((_, c) => of.reduce((total, v, i) => total + (channel(i) === c ? v : 0), 0));
  const expected = {
    y: transformed(normal, channel, { weight, bias }),
    dx: h.map((v, i) => {
      const k = group(i);
      return (rstd[k] as number) * (v - (constant[k] as number) - (normal[i] as number) * (along[k] as number));
    }),
    dWeight: totals(g.map((v, i) => v * (normal[i] as number))),
    dBias: totals(g),
  };
  const size = { y: 1, dx: average(rstd), dWeight: average(rstd), dBias: 1 };
  for (const name of ['y', 'dx', 'dWeight', 'dBias'] as const) {
    expectClose(name, toNumbers(outputs[name]), expected[name], rtol, Math.max(size[name], scaleOf(expected[name])));
  }
}

/** Numbers around `offset` that float32 represents. */
export const around = (offset: number, shape: Shape): NDArray =>
  array(
    normals(7, sizeOf(shape)).map((v) => Math.fround(offset + v)),
    { shape },
  );

/** Nothing but one number. */
export const flat = (value: number, shape: Shape): NDArray => array(new Float32Array(sizeOf(shape)).fill(value), { shape });

/** `(1 - factor) old + factor observed` */
export const towards = (old: Numbers, observed: Numbers, factor: number): number[] =>
  old.map((v, i) => (1 - factor) * v + factor * (observed[i] as number));

/** Variances over one element less. */
export const unbiased = ({ variance, count }: Moments): number[] =>
  variance.map((v, k) => (v * (count[k] as number)) / ((count[k] as number) - 1));
