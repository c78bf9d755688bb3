import { cast, concat, globalAvgPool, greater, mean, mul, ones, type Rng, relu, type Tensor, type Tensors } from 'tracegrad';
import { conv2d, initConv2d, initLinear, linear } from 'tracegrad/layers';
import { crossEntropyLoss } from 'tracegrad/losses';
import {
  type BatchChannelNormParams,
  type BatchNormState,
  batchChannelNorm,
  batchNorm,
  groupNorm,
  initBatchChannelNorm,
  initBatchNorm,
  standardizedConv,
} from 'tracegrad/norm';
import { accuracy, type LossContext, type Metric } from 'tracegrad/train';
import { CLASSES } from '../support/digits.js';

export interface Method {
  readonly name: string;
  /** Whether the weights of convolutions are standardized. */
  readonly standardized?: boolean;
  /** Batch norm, group norm, or batch-channel norm. */
  readonly norm: 'BN' | 'GN' | 'BCN';
  /** Of batch-channel norm: how fast its estimates follow the batches. */
  readonly updateRate?: number;
}

const numGroups = 4;

/** Initial parameters, and what normalizations remember from step to step, of a network with so many channels per layer. */
export function initNet(rng: Rng, { norm }: Method, widths: readonly number[]) {
  const layers = widths.map((width, i) => ({
    conv: initConv2d(rng, widths[i - 1] ?? 1, width, 3, { bias: false }),
    // Group norm starts as batch norm does, and leaves the state alone.
    norm: norm === 'BCN' ? initBatchChannelNorm(width, { numGroups }) : initBatchNorm(width),
  }));
  return {
    params: {
      layers: layers.map(({ conv, norm }) => ({ conv, norm: norm.params })),
      out: initLinear(rng, widths.at(-1)!, CLASSES),
    },
    state: layers.map(({ norm }) => norm.state),
  };
}
type Params = Tensors<ReturnType<typeof initNet>['params']>;
type State = Tensors<ReturnType<typeof initNet>['state']>;

function normalize<S extends BatchNormState>(
  { norm, updateRate = 0.1 }: Method,
  x: Tensor,
  params: BatchChannelNormParams,
  state: S,
  mode: 'train' | 'eval',
): { y: Tensor; state: S } {
  if (norm === 'BN') return batchNorm(x, params, state, { mode });
  if (norm === 'GN') return { y: groupNorm(x, params, { numGroups }), state };
  return batchChannelNorm(x, params, state, { mode, numGroups, estimate: true, updateRate });
}

/** Four times convolution, normalization and relu; the mean over all positions; a linear layer. */
export const lossOf =
  (method: Method) =>
  (params: Params, { images, labels }: { images: Tensor; labels: Tensor }, { training, state }: LossContext<State>) => {
    const convolve = method.standardized ? standardizedConv : conv2d;
    const nextState: State = [];
    const activity: Tensor[] = [];
    let x = images;
    for (const [i, { conv, norm }] of params.layers.entries()) {
      const features = convolve(x, conv, { padding: 1, stride: i === 1 ? 2 : 1 });
      const normal = normalize(method, features, norm, state[i]!, training ? 'train' : 'eval');
      nextState.push(normal.state);
      x = relu(normal.y);
      activity.push(mean(cast(greater(x, 0), 'float32'), { axis: [0, 2, 3] }));
    }
    const logits = linear(globalAvgPool(x), params.out);
    return {
      loss: crossEntropyLoss(logits, labels),
      metrics: { accuracy: accuracy(logits, labels), dead: deadShare(concat(activity), images.shape[0]!) },
      state: nextState,
    };
  };

/** The share of the channels that are active, that is positive, at less than one in a hundred positions of all images. */
function deadShare(activity: Tensor, images: number): Metric {
  return {
    sums: mul(concat([activity, ones([1])]), images),
    compute: (sums) => {
      const total = sums.at(-1)!;
      const channels = sums.slice(0, -1);
      return channels.filter((active) => active < 0.01 * total).length / channels.length;
    },
  };
}
