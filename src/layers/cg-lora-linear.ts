import { filled, type NDArray } from '../core/array.js';
import { checkBoolean, checkNumber, checkOptions, checkParams, checkSize, outOfRange } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { add, mul } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { concat } from '../core/ops/movement.js';
import type { Rng } from '../core/rng.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { dropout } from './dropout.js';
import { checkRate } from './dropout-mask.js';
import { xavierUniform } from './init.js';
import { linear } from './linear.js';
import { frozen } from './lora.js';

/** Parameters of {@link cgLoraLinear}: those of `linear`, which are not trained, and those of the branch, which are. */
export interface CgLoraLinearParams {
  /** `[out, in]` */
  weight: Tensor;
  /** `[out]` */
  bias?: Tensor;
  /** `[bottleneck, text features]` */
  textDown: Tensor;
  /** `[in * rank / 2, bottleneck]` */
  textUp: Tensor;
  /** `[bottleneck, camera features]` */
  camDown: Tensor;
  /** `[in * rank / 2, bottleneck]` */
  camUp: Tensor;
  /** `[out, rank]` */
  loraUp: Tensor;
}

/** What the branch depends on; without both of them there is no branch. */
export interface CgLoraConditions {
  /** Embedding of the text, `[B, text features]`. */
  text?: Tensor;
  /** Features of the camera, `[B, camera features]`. */
  camera?: Tensor;
}

export interface CgLoraLinearOptions {
  /** Factor of the branch. Default 0.1. */
  scale?: number;
  /** Rate of the dropout on the output of the branch. Default 0.1. */
  dropout?: number;
  /** False switches dropout off. Default true. */
  training?: boolean;
}

/**
 * Camera-guided low-rank adaptation of a linear layer: `x W^T + b + scale dropout(x A U^T)`, where every sample has a down projection
 * `A [in, rank]` of its own, made from a text and a camera. Its first `in / 2` rows are `textUp textDown text`, the others
 * `camUp camDown camera`, both read row by row. `W` and `b` get no gradient; see `loraLinear`.
 *
 * Without a text or without a camera it is the plain linear layer.
 *
 * Source: X-Dreamer: Creating High-quality 3D Content by Bridging the Domain Gap Between Text-to-2D and Text-to-3D Generation
 * (2312.00085), as in the official code.
 *
 * @param x `[B, ..., in]`, float, with an even `in`
 * @param params a layer's `weight` and `bias` and what {@link initCgLoraLinear} gives
 * @param conditions `{ text, camera }`
 * @returns `[B, ..., out]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type CgLoraLinearParams, cgLoraLinear } from 'tracegrad/layers';
 *
 * type Inputs = { tokens: Tensor; text: Tensor; camera: Tensor };
 * const project = (p: CgLoraLinearParams, { tokens, ...conditions }: Inputs) => cgLoraLinear(tokens, p, conditions);
 * ```
 */
export function cgLoraLinear(
  x: Tensor,
  params: CgLoraLinearParams,
  conditions: CgLoraConditions = {},
  options: CgLoraLinearOptions = {},
): Tensor {
  const fn = 'cgLoraLinear';
  checkFloat(fn, 'x', x);
  checkParams(fn, params, ['weight', 'bias', 'textDown', 'textUp', 'camDown', 'camUp', 'loraUp']);
  checkOptions(fn, conditions, ['text', 'camera']);
  checkOptions(fn, options, ['scale', 'dropout', 'training']);
  const { scale = 0.1, dropout: rate = 0.1, training = true } = options;
  checkNumber(fn, 'scale', scale, 'a number');
  checkRate(fn, 'dropout', rate);
  checkBoolean(fn, 'training', training);
  const weight = frozen(fn, 'weight', params.weight);
  const y = linear(x, params.bias ? { weight, bias: frozen(fn, 'bias', params.bias) } : { weight });
  const { text, camera } = conditions;
  if (text === undefined || camera === undefined) return y;

  const [outFeatures, inFeatures] = weight.shape as [number, number];
  const [, rank = 0] = checkFloat(fn, 'loraUp', params.loraUp).shape;
  if (rank === 0 || !sameShape(params.loraUp.shape, [outFeatures, rank])) {
    throw outOfRange(fn, 'loraUp', `shape [${outFeatures}, rank]`, params.loraUp);
  }
  if (inFeatures % 2 !== 0) throw outOfRange(fn, 'weight', 'an even number of inputs, half of them for the text', weight);
  if (x.rank < 2) throw outOfRange(fn, 'x', 'a Tensor [B, ..., in]', x);
  const batch = x.shape[0] as number;
  const half = (name: 'text' | 'camera', condition: Tensor, prefix: 'text' | 'cam'): Tensor => {
    const down = checkFloat(fn, `${prefix}Down`, params[`${prefix}Down`]);
    const up = checkFloat(fn, `${prefix}Up`, params[`${prefix}Up`]);
    const [bottleneck = 0, features = 0] = down.shape;
    if (down.rank !== 2) throw outOfRange(fn, `${prefix}Down`, `shape [bottleneck, ${name} features]`, down);
    if (!sameShape(checkFloat(fn, name, condition).shape, [batch, features])) {
      throw outOfRange(fn, name, `shape [${batch}, ${features}]`, condition);
    }
    const rows = (inFeatures * rank) / 2;
    if (!sameShape(up.shape, [rows, bottleneck])) throw outOfRange(fn, `${prefix}Up`, `shape [${rows}, ${bottleneck}]`, up);
    return linear(linear(condition, { weight: down }), { weight: up });
  };
  const projection = reshape(concat([half('text', text, 'text'), half('camera', camera, 'cam')], { axis: 1 }), [batch, inFeatures, rank]);
  const low = matmul(reshape(x, [batch, x.shape.slice(1, -1).reduce((a, b) => a * b, 1), inFeatures]), projection);
  const branch = reshape(linear(low, { weight: params.loraUp }), y.shape);
  return add(y, mul(dropout(branch, { rate, training }), scale));
}

export interface InitCgLoraLinearOptions {
  /** Size of the text's embedding. */
  textFeatures: number;
  /** Size of the camera's features. Default: that of the text. */
  cameraFeatures?: number;
  /** Rank of the update. Default 4. */
  rank?: number;
  /** Width of the generators of the down projection. Default 4. */
  bottleneck?: number;
}

/**
 * Initial parameters of the branch of {@link cgLoraLinear}: the generators by `xavierUniform`, `loraUp` zero, so that the layer begins
 * as it was.
 *
 * @param inFeatures even
 */
export function initCgLoraLinear(
  rng: Rng,
  inFeatures: number,
  outFeatures: number,
  options: InitCgLoraLinearOptions,
): Record<'textDown' | 'textUp' | 'camDown' | 'camUp' | 'loraUp', NDArray> {
  const fn = 'initCgLoraLinear';
  checkOptions(fn, options, ['textFeatures', 'cameraFeatures', 'rank', 'bottleneck']);
  const { textFeatures, cameraFeatures = textFeatures, rank = 4, bottleneck = 4 } = options;
  for (const [name, size] of Object.entries({ inFeatures, outFeatures, textFeatures, cameraFeatures, rank, bottleneck })) {
    checkSize(fn, name, size);
  }
  if (inFeatures % 2 !== 0) throw outOfRange(fn, 'inFeatures', 'an even number', inFeatures);
  const rows = (inFeatures * rank) / 2;
  return {
    textDown: xavierUniform(rng, [bottleneck, textFeatures]),
    textUp: xavierUniform(rng, [rows, bottleneck]),
    camDown: xavierUniform(rng, [bottleneck, cameraFeatures]),
    camUp: xavierUniform(rng, [rows, bottleneck]),
    loraUp: filled([outFeatures, rank], 0),
  };
}
