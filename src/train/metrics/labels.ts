import { checkNumber, outOfRange, show, wrongType } from '../../core/errors.js';
import { broadcastTo, reshape } from '../../core/ops/broadcast.js';
import { ones } from '../../core/ops/constant.js';
import { expectRange } from '../../core/ops/indexing.js';
import { argMax } from '../../core/ops/reduce.js';
import { cast, notEqual, where } from '../../core/ops/select.js';
import { normalizeAxis, type Shape, sameShape } from '../../core/shape.js';
import { checkFloat, checkTensor, type Tensor } from '../../core/tensor.js';

/** Which labels count. */
export interface LabelOptions {
  /**
   * Which elements count: bool, or weights >= 0 (float). Of the labels' shape, or of that of their first axes, such as `[N]` for
   * the rows of a padded batch. Labels and predictions that do not count are in range all the same. Default: all.
   */
  mask?: Tensor | undefined;
  /** Labels with this value do not count. Default -100, as in `crossEntropyLoss`. */
  ignoreIndex?: number;
}

/** Which labels count, and where the scores have their classes. */
export interface ScoreOptions extends LabelOptions {
  /** Axis of the classes in the scores. Default -1. */
  classAxis?: number;
}

export const labelOptions = ['mask', 'ignoreIndex'];
export const scoreOptions = ['mask', 'ignoreIndex', 'classAxis'];

/** Weights of elements, float32 of their shape. */
export function maskWeights(fn: string, mask: Tensor | undefined, shape: Shape): Tensor {
  if (mask === undefined) return ones(shape);
  if (checkTensor(fn, 'mask', mask).dtype === 'int32') throw wrongType(fn, 'mask', 'a bool or float Tensor', mask);
  if (!sameShape(mask.shape, shape.slice(0, mask.rank))) {
    throw outOfRange(fn, 'mask', `[${shape.join(', ')}] (the shape of the labels) or its first axes`, mask);
  }
  const rest = shape.slice(mask.rank).map(() => 1);
  return broadcastTo(reshape(cast(mask, 'float32'), [...mask.shape, ...rest]), shape);
}

/** Labels in range, and how much each counts. */
interface Labels {
  /** int32; 0 where the label is ignored. */
  readonly labels: Tensor;
  /** float32 of the labels' shape. */
  readonly weights: Tensor;
}

/** @param classes their number, or undefined where it is not known: then any label goes */
function checkLabels(fn: string, given: Tensor, classes: number | undefined, options: LabelOptions): Labels {
  const { mask, ignoreIndex = -100 } = options;
  checkNumber(fn, 'ignoreIndex', ignoreIndex, 'an integer', Number.isInteger);
  const labels =
    classes === undefined ? given : expectRange(given, { fn, argument: 'labels', min: 0, max: classes - 1, except: ignoreIndex });
  const valid = notEqual(labels, ignoreIndex);
  return { labels: where(valid, labels, 0), weights: where(valid, maskWeights(fn, mask, given.shape), 0) };
}

function checkInt32(fn: string, argument: string, value: unknown): Tensor {
  const tensor = checkTensor(fn, argument, value);
  if (tensor.dtype !== 'int32') throw wrongType(fn, argument, `int32 classes (array(${argument}, { dtype: 'int32' }))`, tensor);
  return tensor;
}

/** Scores of classes with the labels that belong to them. */
export interface Scored extends Labels {
  /** float32 */
  readonly scores: Tensor;
  /** Axis of the classes, from the front. */
  readonly axis: number;
  /** Their number. */
  readonly classes: number;
}

/**
 * Checks scores and labels.
 *
 * @param argument the name of the scores
 */
export function checkScores(fn: string, argument: string, scores: unknown, labels: unknown, options: ScoreOptions): Scored {
  const x = checkFloat(fn, argument, scores);
  if (x.rank === 0) throw outOfRange(fn, argument, 'a Tensor with an axis of classes', x);
  const axis = normalizeAxis(fn, options.classAxis ?? -1, x.rank, 'classAxis');
  const classes = x.shape[axis] as number;
  if (classes === 0) throw outOfRange(fn, argument, `at least one class along axis ${axis}`, x);
  const given = checkInt32(fn, 'labels', labels);
  const without = (at: number) => x.shape.filter((_, i) => i !== at);
  if (!sameShape(given.shape, without(axis))) {
    const other = x.shape.findIndex((_, at) => sameShape(given.shape, without(at)));
    const hint = other < 0 ? '' : `; pass classAxis: ${other} if the classes are there`;
    const expected = `int32[${without(axis).join(', ')}] (${argument} [${x.shape.join(', ')}] without the classes at axis ${axis})`;
    throw new RangeError(`${fn}: labels: expected ${expected}, received ${show(given)}${hint}`);
  }
  return { scores: cast(x, 'float32'), axis, classes, ...checkLabels(fn, given, classes, options) };
}

/** Predicted classes with their labels. */
export interface Classified extends Labels {
  /** int32 of the labels' shape. */
  readonly predicted: Tensor;
  /** The number of classes, where it is known. */
  readonly classes: number | undefined;
}

/** Checks predictions, which are scores or classes already, and labels. */
export function checkPredictions(
  fn: string,
  predictions: unknown,
  labels: unknown,
  { numClasses, ...options }: ScoreOptions & { numClasses?: number },
  classAxis = -1,
): Classified {
  const given = checkTensor(fn, 'predictions', predictions);
  if (given.dtype === 'int32') {
    const target = checkInt32(fn, 'labels', labels);
    if (!sameShape(given.shape, target.shape))
      throw outOfRange(fn, 'labels', `int32[${given.shape.join(', ')}], like the predictions`, target);
    if (options.classAxis !== undefined) throw new TypeError(`${fn}: classAxis: predictions that are classes (int32) have no such axis`);
    const predicted = numClasses === undefined ? given : expectRange(given, { fn, argument: 'predictions', min: 0, max: numClasses - 1 });
    return { predicted, classes: numClasses, ...checkLabels(fn, target, numClasses, options) };
  }
  const { scores, axis, classes, ...rest } = checkScores(fn, 'predictions', given, labels, {
    ...options,
    classAxis: options.classAxis ?? classAxis,
  });
  if (numClasses !== undefined && numClasses !== classes) {
    throw outOfRange(fn, 'numClasses', `${classes}, the number of classes of the predictions, or nothing`, numClasses);
  }
  return { predicted: argMax(scores, { axis }), classes, ...rest };
}
