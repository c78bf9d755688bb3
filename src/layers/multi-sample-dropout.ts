import { checkBoolean, checkOptions, checkSize, outOfRange, wrongType } from '../core/errors.js';
import { scalarLoss } from '../core/grad.js';
import { stack } from '../core/ops/arrange.js';
import { reshape } from '../core/ops/broadcast.js';
import { split } from '../core/ops/movement.js';
import { mean } from '../core/ops/reduce.js';
import { notEqual } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, checkTensor, isTensor, type Tensor } from '../core/tensor.js';
import { checkRate, keepMask, keepOnly } from './dropout-mask.js';

export interface MultiSampleDropoutOptions {
  /** How many masks there are. Default 8, or as many as `masks` has. */
  numSamples?: number;
  /** Share of the elements that become 0, from 0 to 1. Default 0.5. */
  rate?: number;
  /** False computes the loss once, without dropout. Default true. */
  training?: boolean;
  /** Masks `[numSamples, ...h.shape]` instead of ones that are drawn: bool, or numbers of which 0 drops an element. */
  masks?: Tensor;
}

/**
 * Multi-sample dropout: the mean of the losses of several dropout masks on the same features. One forward and backward pass of
 * what is below gives several of the head, which speeds training up where the head is small.
 *
 * The masks are drawn as those of `dropout` are, and kept elements are divided by `1 - rate`. The head runs once, on all samples as one
 * batch, so a head that uses statistics of its batch takes them over all of them. The loss of the mean of the outputs
 * is something else. With one sample this is ordinary dropout.
 *
 * Source: Multi-Sample Dropout for Accelerated Training and Better Generalization (1905.09788).
 *
 * @param h features `[B, ...]`, float
 * @param head from `[numSamples * B, ...]`, sample after sample, to outputs with the same first axis; without dropout from `h`
 * @param loss from the outputs of one sample, `[B, ...]`, to a scalar
 * @returns a scalar
 * @throws if the head changes the size of the first axis, the loss is no scalar, or masks have another shape
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type LinearParams, linear, multiSampleDropout } from 'tracegrad/layers';
 * import { crossEntropyLoss } from 'tracegrad/losses';
 *
 * const loss = (p: LinearParams, features: Tensor, labels: Tensor, training: boolean) =>
 *   multiSampleDropout(
 *     features,
 *     (h) => linear(h, p),
 *     (logits) => crossEntropyLoss(logits, labels),
 *     { numSamples: 4, training },
 *   );
 * ```
 */
export function multiSampleDropout(
  h: Tensor,
  head: (h: Tensor) => Tensor,
  loss: (output: Tensor) => Tensor,
  options: MultiSampleDropoutOptions = {},
): Tensor {
  const fn = 'multiSampleDropout';
  checkFloat(fn, 'h', h);
  if (h.rank === 0) throw outOfRange(fn, 'h', 'features [B, ...]', h);
  for (const [name, value] of Object.entries({ head, loss }))
    if (typeof value !== 'function') throw wrongType(fn, name, 'a function', value);
  checkOptions(fn, options, ['numSamples', 'rate', 'training', 'masks']);
  const { rate = 0.5, training = true, masks } = options;
  const numSamples = options.numSamples ?? (isTensor(masks) ? (masks.shape[0] ?? 0) : 8);
  checkSize(fn, 'numSamples', numSamples);
  checkRate(fn, 'rate', rate);
  checkBoolean(fn, 'training', training);
  const shape = [numSamples, ...h.shape];
  if (masks !== undefined && !sameShape(checkTensor(fn, 'masks', masks).shape, shape)) {
    throw outOfRange(fn, 'masks', `shape [${shape.join(', ')}]`, masks);
  }
  const evaluate = (x: Tensor, count: number): Tensor => {
    const output = checkTensor(fn, 'the value of head', head(x));
    if (output.shape[0] !== x.shape[0])
      throw outOfRange(fn, 'the value of head', `a first axis of size ${x.shape[0]}, like its input`, output);
    return mean(stack(split(output, count).map((part) => scalarLoss(fn, loss(part)))));
  };
  if (!training || (rate === 0 && !masks)) return evaluate(h, 1);
  const kept = masks === undefined ? keepMask(shape, rate) : masks.dtype === 'bool' ? masks : notEqual(masks, 0);
  const [batch, ...rest] = h.shape as [number, ...number[]];
  return evaluate(reshape(keepOnly(reshape(h, [1, ...h.shape]), kept, rate), [numSamples * batch, ...rest]), numSamples);
}
