import type { Tensor } from '../../core/tensor.js';

/**
 * Statistics of a batch that add up over batches, and the number that they amount to.
 *
 * The metric of several batches is `compute` of the sum of their `sums`, added on the device: not the mean of the batches'
 * values, which is another number wherever batches differ in size or a metric is not a mean.
 *
 * Counts are exact as long as they are at most 2^24 (16.7 million): beyond that float32 skips integers.
 */
export interface Metric {
  /** float32 `[K]`: sums over the batch. */
  readonly sums: Tensor;
  /** The value, on the host, from the K sums. */
  readonly compute: (sums: readonly number[]) => number;
}

/** `numerator / denominator`; 0 where there is nothing to divide by. */
export const ratio = (numerator: number, denominator: number): number => (denominator === 0 ? 0 : numerator / denominator);
