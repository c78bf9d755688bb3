import { checkOneOf, checkOptions, checkSize, show } from '../core/errors.js';
import { reshape, sum } from '../core/ops/broadcast.js';
import { constant } from '../core/ops/constant.js';
import { mul } from '../core/ops/elementwise.js';
import { concat, sliceAxis } from '../core/ops/movement.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { type BatchNormMode, normalizeChannels } from './batch-norm.js';
import { axesBut, type ChannelParams, checkEps, checkImage, checkRate, checkState, checkVectors } from './channels.js';
import { type BatchNormState, foldRunning, multiplyAdd, type Observed, updateRunning } from './running-stats.js';
import { center, groupSize } from './standardize.js';

export interface GhostBatchNormOptions {
  /** Samples per ghost batch. */
  ghostBatchSize: number;
  /** As of {@link batchNorm}. */
  mode: BatchNormMode;
  /** Weight of a new value in the running statistics, from 0 to 1. Default 0.1. */
  momentum?: number;
  /** Added to the variance. Default 1e-5; with 0 a constant channel gives NaN. */
  eps?: number;
  /**
   * What happens if `ghostBatchSize` does not divide the batch. `'error'` (default); `'chunk'`: as `torch.chunk` cuts into
   * `ceil(N / ghostBatchSize)` parts, all but the last of equal size, so 5 samples with size 4 are 3 + 2; `'balanced'`: as many parts, whose
   * sizes differ by at most 1; `'short'`: whole ghost batches, then the rest.
   */
  remainder?: 'error' | 'chunk' | 'balanced' | 'short';
  /**
   * How ghost batches enter the running statistics. `'sequential'` (default): one after the other, each with `momentum`, which leaves a memory
   * of `1 / (K momentum)` batches of K ghosts; `'scaledMomentum'`: likewise with `momentum / K`; `'mean'`: their average, once.
   */
  statsAggregation?: 'sequential' | 'scaledMomentum' | 'mean';
}

/** The sizes of consecutive ghost batches. */
function ghostSizes(fn: string, samples: number, size: number, remainder: GhostBatchNormOptions['remainder']): number[] {
  checkSize(fn, 'ghostBatchSize', size);
  const count = Math.ceil(samples / size);
  const even = Math.ceil(samples / count);
  if (samples % size === 0) return Array(count).fill(size);
  switch (remainder) {
    case 'short':
      return [...Array(count - 1).fill(size), samples % size];
    case 'balanced':
      return Array.from({ length: count }, (_, k) => Math.floor(samples / count) + (k < samples % count ? 1 : 0));
    case 'chunk':
      return Array.from({ length: count }, (_, k) => Math.min(even, samples - k * even));
    default:
      throw new RangeError(
        `${fn}: ghostBatchSize: expected a divisor of the ${samples} samples of x, received ${size} (see the option remainder)`,
      );
  }
}

/** Normalises groups of consecutive samples by their own statistics, which are returned as `[groups, C]` if they are of interest. */
export function normalizeGhosts(
  fn: string,
  x: Tensor,
  sizes: readonly number[],
  affine: ChannelParams,
  eps: number,
  group: string,
): { y: Tensor; observed: Observed; counts: readonly number[] } {
  const [, channels, ...rest] = x.shape as [number, number, ...number[]];
  const [size] = sizes as [number];
  // Equal groups in one go, others one by one.
  const equal = sizes.every((other) => other === size);
  const starts = sizes.map((_, k) => sizes.slice(0, k).reduce((a, b) => a + b, 0));
  const parts = equal
    ? [reshape(x, [sizes.length, size, channels, ...rest])]
    : sizes.map((length, k) =>
        reshape(sliceAxis(x, 0, starts[k] as number, (starts[k] as number) + length), [1, length, channels, ...rest]),
      );
  const normal = parts.map((part) => {
    const axes = axesBut(part, 0, 2);
    const count = groupSize(part, axes);
    if (count === 1) {
      const found = `${show(x)} in groups of ${[...new Set(sizes)].join(' and ')}`;
      throw new RangeError(`${fn}: x: expected more than one value per channel in every ${group}, received ${found}`);
    }
    const centered = center(part, axes);
    const flat = (values: Tensor) => reshape(values, [part.shape[0] as number, channels]);
    return {
      y: reshape(normalizeChannels(centered, affine, eps, 2), [-1, channels, ...rest]),
      mean: flat(centered.mean),
      variance: flat(centered.variance),
      counts: Array<number>(part.shape[0] as number).fill(count),
    };
  });
  const joined = (values: readonly Tensor[]) => (values.length === 1 ? (values[0] as Tensor) : concat(values, { axis: 0 }));
  return {
    y: joined(normal.map(({ y }) => y)),
    observed: { mean: joined(normal.map(({ mean }) => mean)), variance: joined(normal.map(({ variance }) => variance)) },
    counts: normal.flatMap(({ counts }) => counts),
  };
}

/**
 * Ghost batch normalization: the batch is cut into groups of consecutive samples, each normalised by its own statistics, with shared
 * `weight` and `bias`. A regularizer for large batches and for little data; do not expect more accuracy from it as a rule. In `'eval'` it is
 * {@link batchNorm}.
 *
 * Running statistics take the unbiased variance of every group. Their K updates in order are computed at once:
 * `(1 - f)^K old + f sum_k (1 - f)^(K - k) new_k`.
 *
 * Source: Train longer, generalize better (1705.08741). The paper's weights `(1 - f)^i f` do not add up to 1, and it averages standard
 * deviations; the authors' code, which feeds ordinary layers one group after the other, does what is done here. `'scaledMomentum'` is
 * Composer's choice. PyTorch, flax and ONNX have no such layer.
 *
 * @param x `[N, C, ...]`, float
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initBatchNorm}
 * @param state running statistics, float `[C]`; in mode `'batch'` whatever it is comes back
 * @returns `y` like `x`, and the next state; `numBatchesTracked` counts updates
 * @throws if the size does not divide the batch (unless `remainder` says how), a group has a single value per channel, a shape does not fit
 *   or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type BatchNormState, type ChannelParams, ghostBatchNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: ChannelParams, state: BatchNormState, x: Tensor, training: boolean) =>
 *   ghostBatchNorm(x, p, state, { ghostBatchSize: 32, remainder: 'balanced', mode: training ? 'train' : 'eval' });
 * ```
 */
export function ghostBatchNorm<S extends BatchNormState | undefined>(
  x: Tensor,
  params: ChannelParams,
  state: S,
  options: GhostBatchNormOptions,
): { y: Tensor; state: S } {
  const fn = 'ghostBatchNorm';
  const wide = checkImage(fn, x);
  const [samples, channels] = x.shape as [number, number];
  const affine = checkVectors(fn, params, ['weight', 'bias'], channels);
  checkOptions(fn, options, ['ghostBatchSize', 'mode', 'momentum', 'eps', 'remainder', 'statsAggregation']);
  const { ghostBatchSize, mode, momentum = 0.1, eps = 1e-5, remainder = 'error', statsAggregation = 'sequential' } = options;
  checkSize(fn, 'ghostBatchSize', ghostBatchSize);
  checkOneOf(fn, 'mode', mode, ['train', 'eval', 'batch']);
  checkRate(fn, 'momentum', momentum);
  checkEps(fn, eps);
  checkOneOf(fn, 'remainder', remainder, ['error', 'chunk', 'balanced', 'short']);
  checkOneOf(fn, 'statsAggregation', statsAggregation, ['sequential', 'scaledMomentum', 'mean']);
  if (mode === 'eval') {
    return { y: cast(multiplyAdd(wide, foldRunning(fn, affine, state as BatchNormState, eps, channels)), x.dtype), state };
  }
  const sizes = ghostSizes(fn, samples, ghostBatchSize, remainder);
  const { y, observed, counts } = normalizeGhosts(fn, wide, sizes, affine, eps, 'ghost batch');
  const result = cast(y, x.dtype);
  if (mode === 'batch') return { y: result, state };
  checkState(fn, state, ['runningMean', 'runningVar'], channels);
  const ghosts = sizes.length;
  const once = statsAggregation === 'mean';
  const factor = statsAggregation === 'scaledMomentum' ? momentum / ghosts : momentum;
  // The share of all updates together, and that of every group in it.
  const share = once ? momentum : 1 - (1 - factor) ** ghosts;
  const weights = counts.map((_, k) => (once || share === 0 ? 1 / ghosts : (factor * (1 - factor) ** (ghosts - 1 - k)) / share));
  const average = (values: Tensor, corrections: readonly number[]) =>
    sum(mul(values, reshape(constant(weights.map((weight, k) => weight * (corrections[k] as number))), [ghosts, 1])), { axis: 0 });
  const combined = {
    mean: average(
      observed.mean,
      counts.map(() => 1),
    ),
    variance: average(
      observed.variance,
      counts.map((count) => count / (count - 1)),
    ),
  };
  return { y: result, state: updateRunning(fn, state as BatchNormState, combined, share, once ? 1 : ghosts) as S };
}
