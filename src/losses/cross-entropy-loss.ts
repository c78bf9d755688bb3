import { checkNumber, checkOptions, outOfRange, show, wrongType } from '../core/errors.js';
import { stopGradient } from '../core/grad.js';
import { reshape, sum } from '../core/ops/broadcast.js';
import { constant } from '../core/ops/constant.js';
import { add, div, mul, sub } from '../core/ops/elementwise.js';
import { expectRange, gather, takeAlongAxis } from '../core/ops/indexing.js';
import { logSumExp } from '../core/ops/reduce.js';
import { cast, greater, notEqual, where } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, checkTensor, isTensor, type Tensor } from '../core/tensor.js';
import { checkReduction, type Reduction, reduce } from './reduction.js';

export interface CrossEntropyLossOptions {
  /** A factor >= 0 for every class: C numbers, or a Tensor `[C]` (which gets no gradient). Default: 1 each. */
  classWeights?: readonly number[] | Tensor;
  /** Integer targets with this value do not count. Default -100. Has no effect on probability targets. */
  ignoreIndex?: number;
  /** Share of the target spread evenly over all classes, from 0 (default) to 1. */
  labelSmoothing?: number;
  /** Default `'mean'`. */
  reduction?: Reduction;
}

/**
 * Cross-entropy of a softmax over the classes, from logits.
 *
 * With integer targets y, class weights w and label smoothing e, an element's loss is
 * `(1 - e) w_y l_y + (e / C) sum_c w_c l_c` with `l = -logSoftmax(logits)`. The mean divides by the sum of `w_y` over the elements
 * that are not ignored, as in PyTorch. With probability targets t it is `sum_c w_c ((1 - e) t_c + e / C) l_c`, and the mean divides
 * by the number of elements.
 *
 * An ignored class index still takes part in the softmax of the other elements, and an ignored element must still have finite logits. If everything is ignored, or the weights
 * add up to 0, value and gradient are 0 (PyTorch: NaN). float16 is computed in float32.
 *
 * Source: `torch.nn.functional.cross_entropy`.
 *
 * @param logits `[N, C, ...]`, float
 * @param target `[N, ...]` int32, each in `[0, C)` or `ignoreIndex`, checked before every run where it is an argument of the compiled
 *   function; or probabilities `[N, C, ...]`, float, which get no gradient
 * @returns a scalar, or with `reduction: 'none'` `[N, ...]`
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { crossEntropyLoss } from 'tracegrad/losses';
 *
 * const loss = (logits: Tensor, labels: Tensor) => crossEntropyLoss(logits, labels, { labelSmoothing: 0.1 });
 * ```
 */
export function crossEntropyLoss(logits: Tensor, target: Tensor, options: CrossEntropyLossOptions = {}): Tensor {
  const fn = 'crossEntropyLoss';
  checkFloat(fn, 'logits', logits);
  checkTensor(fn, 'target', target);
  checkOptions(fn, options, ['classWeights', 'ignoreIndex', 'labelSmoothing', 'reduction']);
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = 'mean' } = options;
  checkNumber(fn, 'ignoreIndex', ignoreIndex, 'an integer', Number.isInteger);
  checkNumber(fn, 'labelSmoothing', labelSmoothing, 'a number from 0 to 1', (e) => e >= 0 && e <= 1);
  checkReduction(fn, reduction);
  if (logits.rank < 2) throw outOfRange(fn, 'logits', 'a Tensor [N, C, ...]', logits);
  const [n, classes, ...rest] = logits.shape as [number, number, ...number[]];
  const x = cast(logits, 'float32');
  const logTotal = logSumExp(x, { axis: 1, keepDims: true });
  const weights = weightsOf(options.classWeights, classes);
  // Along the class axis of x.
  const perClass = weights && reshape(weights, [1, classes, ...rest.map(() => 1)]);
  const weighted = (values: Tensor) => (perClass ? mul(values, perClass) : values);

  if (target.dtype === 'float32' || target.dtype === 'float16') {
    if (sameShape(target.shape, [n, ...rest])) {
      throw new TypeError(`${fn}: target: labels must be int32 (array(labels, { dtype: 'int32' })), received ${show(target)}`);
    }
    if (!sameShape(target.shape, logits.shape)) {
      throw outOfRange(fn, 'target', `probabilities of shape [${logits.shape.join(', ')}]`, target);
    }
    const given = cast(stopGradient(target), 'float32');
    const smooth = labelSmoothing > 0 ? add(mul(given, 1 - labelSmoothing), labelSmoothing / classes) : given;
    return reduce(sum(mul(weighted(smooth), sub(logTotal, x)), { axis: 1 }), reduction);
  }
  if (!sameShape(target.shape, [n, ...rest])) throw outOfRange(fn, 'target', `int32[${[n, ...rest].join(', ')}] or probabilities`, target);
  const labels = expectRange(target, { fn, argument: 'target', min: 0, max: classes - 1, except: ignoreIndex });
  const valid = notEqual(labels, ignoreIndex);
  const index = where(valid, labels, 0);
  const own = sub(logTotal, takeAlongAxis(x, reshape(index, [n, 1, ...rest]), { axis: 1 }));
  const factor = where(valid, weights ? gather(weights, index) : 1, 0);
  let values = mul(reshape(own, target.shape), factor);
  if (labelSmoothing > 0) {
    const others = where(valid, sum(weighted(sub(logTotal, x)), { axis: 1 }), 0);
    values = add(mul(values, 1 - labelSmoothing), mul(others, labelSmoothing / classes));
  }
  if (reduction !== 'mean') return reduce(values, reduction);
  const total = sum(factor);
  const some = greater(total, 0);
  return where(some, div(sum(values), where(some, total, 1)), 0);
}

function weightsOf(given: readonly number[] | Tensor | undefined, classes: number): Tensor | undefined {
  if (given === undefined) return undefined;
  const fn = 'crossEntropyLoss';
  if (!isTensor(given)) {
    if (!Array.isArray(given)) throw wrongType(fn, 'classWeights', 'a list of numbers or a Tensor', given);
    for (const [i, w] of given.entries()) checkNumber(fn, `classWeights[${i}]`, w, 'a number >= 0', (v) => v >= 0);
  }
  const weights = isTensor(given) ? stopGradient(cast(given, 'float32')) : constant(given);
  if (!sameShape(weights.shape, [classes])) throw outOfRange(fn, 'classWeights', `${classes} weights, one per class`, weights.shape);
  return weights;
}
