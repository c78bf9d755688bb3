import { add, conv2d, filled, globalAvgPool, mul, type NDArray, permutation, type Rng, relu, type Tensor, type Tensors } from 'tracegrad';
import { heNormal, initLinear, linear, uniform } from 'tracegrad/layers';
import { crossEntropyLoss } from 'tracegrad/losses';
import { batchNorm, initBatchNorm } from 'tracegrad/norm';
import { accuracy, type LossContext } from 'tracegrad/train';
import { CLASSES } from '../support/digits.js';

/** A convolution and its batch norm. What is convolved with is `weight + mask * delta` where there is a mask. */
interface Unit<T> {
  readonly conv: { readonly weight: T; readonly mask?: T; readonly delta?: T };
  readonly norm: { readonly weight: T; readonly bias: T };
}

interface Block<T> {
  readonly first: Unit<T>;
  readonly second: Unit<T>;
  /** In blocks that change the shape. */
  readonly shortcut?: Unit<T>;
}

/** Batch norm has two parameters per channel; as many weights does the control experiment train. */
export const CHOSEN = 2;

/**
 * Initial parameters and running statistics of a residual network: three stages of 8, 16 and 32 channels, with `(depth - 2) / 6` blocks of two
 * convolutions each.
 *
 * @param masked choose weights at random, of which there are `CHOSEN` per channel, that can be trained as `delta`
 */
export function initResNet(rng: Rng, depth: number, { masked }: { masked: boolean }) {
  const state: ReturnType<typeof initBatchNorm>['state'][] = [];
  const unit = (from: number, to: number, kernelSize: number): Unit<NDArray> => {
    const weight = heNormal(rng, [to, from, kernelSize, kernelSize]);
    const norm = initBatchNorm(to);
    state.push(norm.state);
    return {
      conv: masked ? { weight, mask: randomMask(rng, weight.shape), delta: filled(weight.shape, 0) } : { weight },
      norm: { weight: uniform(rng, [to]), bias: norm.params.bias },
    };
  };
  const block = (from: number, to: number): Block<NDArray> => {
    const path = { first: unit(from, to, 3), second: unit(to, to, 3) };
    return from === to ? path : { ...path, shortcut: unit(from, to, 1) };
  };
  const stem = unit(1, 8, 3);
  const blocks = [8, 16, 32].flatMap((width, stage) =>
    Array.from({ length: (depth - 2) / 6 }, (_, i) => block(stage > 0 && i === 0 ? width / 2 : width, width)),
  );
  return { params: { stem, blocks, out: initLinear(rng, 32, CLASSES) }, state };
}
type Params = Tensors<ReturnType<typeof initResNet>['params']>;
type State = Tensors<ReturnType<typeof initResNet>['state']>;

/** 1 at `CHOSEN` places of every channel, 0 elsewhere. */
function randomMask(rng: Rng, shape: readonly number[]): NDArray {
  const mask = filled(shape, 0);
  const size = mask.data.length / shape[0]!;
  for (let start = 0; start < mask.data.length; start += size) {
    for (const place of permutation(size, rng).subarray(0, CHOSEN)) mask.data[start + place] = 1;
  }
  return mask;
}

export function loss(params: Params, { images, labels }: { images: Tensor; labels: Tensor }, { training, state }: LossContext<State>) {
  const nextState: State = [];
  const apply = (x: Tensor, { conv, norm }: Unit<Tensor>, stride = 1): Tensor => {
    const { weight, mask, delta } = conv;
    const kernel = mask && delta ? add(weight, mul(mask, delta)) : weight;
    const features = conv2d(x, kernel, { stride, padding: kernel.shape[2] === 3 ? 1 : 0 });
    const normal = batchNorm(features, norm, state[nextState.length]!, { mode: training ? 'train' : 'eval' });
    nextState.push(normal.state);
    return normal.y;
  };
  let x = relu(apply(images, params.stem));
  for (const { first, second, shortcut } of params.blocks) {
    const stride = shortcut ? 2 : 1;
    const change = apply(relu(apply(x, first, stride)), second);
    x = relu(add(change, shortcut ? apply(x, shortcut, stride) : x));
  }
  const logits = linear(globalAvgPool(x), params.out);
  return { loss: crossEntropyLoss(logits, labels), metrics: { accuracy: accuracy(logits, labels) }, state: nextState };
}

/** The scales of all batch norms. */
export function scalesOf({ stem, blocks }: { stem: Unit<NDArray>; blocks: readonly Block<NDArray>[] }): number[] {
  const units = [stem, ...blocks.flatMap(({ first, second, shortcut }) => [first, second, ...(shortcut ? [shortcut] : [])])];
  return units.flatMap(({ norm }) => [...norm.weight.data]);
}
