import { reshape } from '../../core/ops/broadcast.js';
import { mul } from '../../core/ops/elementwise.js';
import { concat } from '../../core/ops/movement.js';
import type { Tensor } from '../../core/tensor.js';

/** Statistics of a batch that add up over batches, and the number that they amount to. */
export interface Metric {
  /** float32 vector: sums over the batch. Those of several batches are added, on the device. */
  readonly sums: Tensor;
  /** The value, on the host, from sums. */
  readonly compute: (sums: readonly number[]) => number;
}

/** A scalar as a metric: its mean over batches, weighted; 0 where the weights are 0. Both are float32 scalars. */
export const meanOf = (value: Tensor, weight: Tensor): Metric => ({
  sums: concat([mul(value, weight), weight].map((scalar) => reshape(scalar, [1]))),
  compute: ([total, count]) => (count === 0 ? 0 : (total as number) / (count as number)),
});
