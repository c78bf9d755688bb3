import { largestOf } from '../dtype.js';
import { checkNumber, checkOptions, outOfRange, wrongType } from '../errors.js';
import { normalizeAxes, normalizeAxis, sizeOf } from '../shape.js';
import { apply, checkFloat, checkTensor, type Op, type Tensor } from '../tensor.js';
import { droppedShape, emitSum, inferReduced, keptShape, type ReduceOp, type ReduceOptions, reduceBy, reshape, sum } from './broadcast.js';
import { emitPositions } from './constant.js';
import { div, exp, mul, neg, sqrt, square, sub } from './elementwise.js';
import { cast, equal, greater, where } from './select.js';

const reduceOptions = ['axis', 'keepDims'];

const countOf = (x: Tensor, axes: readonly number[]): number => sizeOf(axes.map((axis) => x.shape[axis] as number));

/** Throws if a reduced axis has no elements. */
function checkSome(fn: string, x: Tensor, options: ReduceOptions): void {
  checkOptions(fn, options, reduceOptions);
  if (countOf(x, normalizeAxes(fn, options.axis, x.rank)) === 0) throw outOfRange(fn, 'x', 'at least one element to reduce', x);
}

/** Throws if `x` is a mask, or a reduced axis has no elements. */
function checkComparable(fn: string, x: Tensor, options: ReduceOptions): void {
  if (checkTensor(fn, 'x', x).dtype === 'bool') throw wrongType(fn, 'x', 'a numeric Tensor', x);
  checkSome(fn, x, options);
}

/**
 * Arithmetic mean over `axis`; as accurate as {@link sum}. The mean over no elements is 0.
 *
 * @param x float
 * @example
 * ```ts
 * import { mean, square, sub, type Tensor } from 'tracegrad';
 *
 * const meanSquaredError = (a: Tensor, b: Tensor) => mean(square(sub(a, b)));
 * ```
 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkFloat('mean', 'x', x);
  checkOptions('mean', options, reduceOptions);
  const count = countOf(x, normalizeAxes('mean', options.axis, x.rank));
  // In float32, as the sum may exceed float16 where the mean does not.
  return cast(mul(sum(cast(x, 'float32'), options), count === 0 ? 0 : 1 / count), x.dtype);
}

const maxOp: ReduceOp = {
  name: 'max',
  infer: inferReduced,
  emit: (graph, [x], { attributes }) => [graph.node('ReduceMax', [x, graph.ints(attributes.axes)], { keepdims: 1 })],
  vjp: ([g], { inputs: [x], outputs: [y], attributes: { axes } }) => {
    const ties = cast(equal(x, y), x.dtype);
    return [mul(ties, div(g, sum(ties, { axis: axes, keepDims: true })))];
  },
};

/**
 * Largest element over `axis`. Elements that tie share the gradient equally. Where an element is NaN the result is unspecified.
 *
 * @param x float or int32
 * @throws if a reduced axis has no elements
 */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkComparable('max', x, options);
  return reduceBy(maxOp, x, options);
}

/**
 * Smallest element over `axis`. Elements that tie share the gradient equally.
 *
 * @param x float or int32
 * @throws if a reduced axis has no elements
 */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkComparable('min', x, options);
  return neg(max(neg(x), options));
}

const prodOp: ReduceOp = {
  name: 'prod',
  infer: inferReduced,
  emit: (graph, [x], { inputs, outputs, attributes }) =>
    sizeOf(inputs[0].shape) === 0
      ? [graph.node('Expand', [graph.scalar(1, inputs[0].dtype), graph.ints(outputs[0].shape)])]
      : [graph.node('ReduceProd', [x, graph.ints(attributes.axes)], { keepdims: 1 })],
  vjp: ([g], { inputs: [x], attributes: { axes } }) => {
    // The product of the others: of all over x, but for zeros, of which the only one has the product of the rest.
    const zero = equal(x, 0);
    const zeros = sum(cast(zero, x.dtype), { axis: axes, keepDims: true });
    const safe = where(zero, 1, x);
    const rest = prod(safe, { axis: axes, keepDims: true });
    const others = where(zero, where(equal(zeros, 1), rest, 0), where(equal(zeros, 0), div(rest, safe), 0));
    return [mul(g, others)];
  },
};

/**
 * Product of the elements over `axis`. The product of no elements is 1. Its gradient is right at zeros; second derivatives there are not (those of {@link cumprod} are).
 *
 * @param x float
 */
export function prod(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduceBy(prodOp, checkFloat('prod', 'x', x), options);
}

/**
 * Euclidean (L2) norm over `axis`: `sqrt(sum(x^2))`. Its gradient at 0 is 0.
 *
 * @param x float
 */
export function norm(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkFloat('norm', 'x', x);
  checkOptions('norm', options, reduceOptions);
  const total = sum(square(cast(x, 'float32')), options);
  const some = greater(total, 0);
  return cast(where(some, sqrt(where(some, total, 1)), 0), x.dtype);
}

export interface ArgReduceOptions {
  /** Default -1. */
  axis?: number;
  /** Keep the axis with size 1. Default false. */
  keepDims?: boolean;
}

const argMaxOp: Op<[Tensor], { axis: number }> = {
  name: 'argMax',
  infer: ([x], { axis }) => [{ shape: keptShape(x.shape, [axis]), dtype: 'int32' }],
  emit: (graph, [x], { inputs: [{ shape }], attributes: { axis } }) => [
    emitPositions(graph, graph.node('ArgMax', [x], { axis, keepdims: 1 }), shape[axis] as number),
  ],
};

/**
 * Index of the largest element along an axis, as int32; the first where several tie. No gradient.
 *
 * @param x float, rank >= 1
 * @throws if the axis has no elements
 * @example
 * ```ts
 * import { argMax, cast, equal, mean, type Tensor } from 'tracegrad';
 *
 * const accuracy = (logits: Tensor, labels: Tensor) => mean(cast(equal(argMax(logits), labels), 'float32'));
 * ```
 */
export function argMax(x: Tensor, options: ArgReduceOptions = {}): Tensor {
  return arg('argMax', x, options);
}

/** Index of the smallest element along an axis, as int32; the first where several tie. No gradient. See {@link argMax}. */
export function argMin(x: Tensor, options: ArgReduceOptions = {}): Tensor {
  return arg('argMin', x, options);
}

function arg(fn: 'argMax' | 'argMin', x: Tensor, options: ArgReduceOptions): Tensor {
  checkFloat(fn, 'x', x);
  checkOptions(fn, options, ['axis', 'keepDims']);
  const axis = normalizeAxis(fn, options.axis ?? -1, x.rank);
  if (x.shape[axis] === 0) throw outOfRange(fn, 'x', `at least one element along axis ${axis}`, x);
  const kept = apply(argMaxOp, [fn === 'argMin' ? neg(x) : x], { axis })[0];
  return options.keepDims ? kept : reshape(kept, droppedShape(x.shape, [axis]));
}

export interface VarianceOptions extends ReduceOptions {
  /** Divide by `n - correction`: 0 (default) for the population variance, 1 for the unbiased estimate. */
  correction?: number;
}

/**
 * Variance over `axis`, in two passes (mean, then mean of squared deviations), so a large mean does not cost
 * digits. float16 is computed in float32.
 *
 * @param x float
 * @throws if `n - correction` is not positive
 */
export function variance(x: Tensor, options: VarianceOptions = {}): Tensor {
  checkFloat('variance', 'x', x);
  checkOptions('variance', options, [...reduceOptions, 'correction']);
  const { correction = 0, ...reduction } = options;
  checkNumber('variance', 'correction', correction, 'a number >= 0', (c) => c >= 0);
  const count = countOf(x, normalizeAxes('variance', options.axis, x.rank));
  if (count - correction <= 0) throw outOfRange('variance', 'correction', `a number below the ${count} elements reduced`, correction);
  const wide = cast(x, 'float32');
  const deviation = sub(wide, mean(wide, { ...reduction, keepDims: true }));
  return cast(mul(sum(square(deviation), reduction), 1 / (count - correction)), x.dtype);
}

const logSumExpOp: ReduceOp = {
  name: 'logSumExp',
  infer: inferReduced,
  emit: (graph, [x], { inputs, attributes: { axes } }) => {
    const { shape, dtype } = inputs[0];
    // In float32, as the sum may exceed float16 where its logarithm does not.
    const wide = dtype === 'float16' ? graph.node('Cast', [x], { to: 1 }) : x;
    // Clamped, so that a row of -Infinity gives -Infinity (on WebGPU the lowest float) and not NaN.
    const lowest = graph.scalar(-largestOf('float32'), 'float32');
    const top = graph.node('Max', [graph.node('ReduceMax', [wide, graph.ints(axes)], { keepdims: 1 }), lowest]);
    const powers = graph.node('Exp', [graph.node('Sub', [wide, top])]);
    const result = graph.node('Add', [graph.node('Log', [emitSum(graph, powers, shape, axes, 'float32')]), top]);
    return [dtype === 'float16' ? graph.node('Cast', [result], { to: 10 }) : result];
  },
  vjp: ([g], { inputs: [x], outputs: [y] }) => [mul(g, exp(sub(x, y)))],
};

/**
 * `log(sum(exp(x)))` over `axis`, without overflow: the largest element is subtracted first. Mask with a large negative
 * number (-1e30), not with -Infinity: a row of nothing else has no gradient.
 *
 * @param x float
 * @throws if a reduced axis has no elements
 */
export function logSumExp(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkFloat('logSumExp', 'x', x);
  checkSome('logSumExp', x, options);
  return reduceBy(logSumExpOp, x, options);
}
