import { filled, type NDArray } from '../core/array.js';
import { checkSize, outOfRange, wrongType } from '../core/errors.js';
import { stopGradient } from '../core/grad.js';
import { add, div, mul, sub } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import { checkTensor, type Tensor } from '../core/tensor.js';
import { alongAxis, type ChannelParams, checkState } from './channels.js';
import { rstdOf } from './standardize.js';

/** What a batch normalization has learned about its input: state that goes in and comes out. Gradients never pass it. */
export interface BatchNormState {
  /** `[C]` */
  runningMean: Tensor;
  /** `[C]` */
  runningVar: Tensor;
  /** int32 `[]`: how many batches were seen. Kept up where it is there, needed only with `momentum: null`. */
  numBatchesTracked?: Tensor;
}

export type RunningVarEstimator = 'unbiased' | 'biased';

/** Statistics of one batch, `[C]` each, as they enter the running ones. */
export interface Observed {
  readonly mean: Tensor;
  readonly variance: Tensor;
}

/** Moves `old` towards `observed` by the share `factor`. */
export const towards = (old: Tensor, observed: Tensor, factor: Tensor | number): Tensor =>
  cast(
    add(
      mul(cast(stopGradient(old), 'float32'), typeof factor === 'number' ? 1 - factor : sub(1, factor)),
      mul(stopGradient(observed), factor),
    ),
    old.dtype,
  );

/** The running statistics after a batch that weighs `factor`; null is the plain average of all batches so far. */
export function updateRunning<S extends BatchNormState>(
  fn: string,
  state: S,
  { mean, variance }: Observed,
  factor: number | null,
  batches = 1,
): S {
  const { numBatchesTracked } = state;
  const counter = 'state.numBatchesTracked';
  if (numBatchesTracked !== undefined && (checkTensor(fn, counter, numBatchesTracked).rank !== 0 || numBatchesTracked.dtype !== 'int32')) {
    throw outOfRange(fn, counter, 'an int32 Tensor of shape []', numBatchesTracked);
  }
  if (factor === null && !numBatchesTracked) {
    throw wrongType(fn, counter, 'an int32 Tensor of shape [], which momentum: null needs', numBatchesTracked);
  }
  const weight = factor ?? div(1, cast(add(numBatchesTracked as Tensor, 1), 'float32'));
  return {
    ...state,
    runningMean: towards(state.runningMean, mean, weight),
    runningVar: towards(state.runningVar, variance, weight),
    ...(numBatchesTracked ? { numBatchesTracked: add(numBatchesTracked, batches) } : {}),
  };
}

/** The normalization by running statistics as one multiply-add, `x scale + shift`, with `[C]` each. */
export function foldRunning(
  fn: string,
  { weight, bias }: ChannelParams,
  state: BatchNormState,
  eps: number,
  channels: number,
): { scale: Tensor; shift: Tensor } {
  const { runningMean, runningVar } = checkState(fn, state, ['runningMean', 'runningVar'], channels);
  const rstd = stopGradient(rstdOf(runningVar, eps));
  const scale = weight ? mul(rstd, weight) : rstd;
  const shift = mul(stopGradient(runningMean), scale);
  return { scale, shift: bias ? sub(bias, shift) : mul(shift, -1) };
}

/** `x scale + shift` per channel. */
export const multiplyAdd = (x: Tensor, { scale, shift }: { scale: Tensor; shift: Tensor }): Tensor =>
  add(mul(x, alongAxis(scale, x.rank)), alongAxis(shift, x.rank));

/** Running statistics before the first batch: mean 0, variance 1. */
export function initRunning(fn: string, channels: number): { runningMean: NDArray; runningVar: NDArray; numBatchesTracked: NDArray } {
  checkSize(fn, 'channels', channels);
  return { runningMean: filled([channels], 0), runningVar: filled([channels], 1), numBatchesTracked: filled([], 0, 'int32') };
}

/** Scale 1 and offset 0 per channel. */
export function initChannels(fn: string, channels: number): { weight: NDArray; bias: NDArray } {
  checkSize(fn, 'channels', channels);
  return { weight: filled([channels], 1), bias: filled([channels], 0) };
}
