export { type ArrayLike, array, filled, type NDArray, type Nested, toNumbers, toScalar } from './core/array.js';
export { checkpoint } from './core/checkpoint.js';
export { type CustomVjpRule, customVjp } from './core/custom-vjp.js';
export type { DType, TypedArray } from './core/dtype.js';
export { type GradOptions, grad, gradients, stopGradient, valueAndGrad, vjp } from './core/grad.js';
export { rebuild } from './core/graph.js';
export { type HostCompute, type HostContext, hostInput } from './core/leaf.js';
export { elu, leakyRelu, silu, softplus } from './core/ops/activation.js';
export { expandDims, eye, outer, roll, squeeze, stack, tile, tril, triu } from './core/ops/arrange.js';
export { broadcastTo, type ReduceOptions, reshape, sum } from './core/ops/broadcast.js';
export { arange, constant, full, ones, zeros, zerosLike } from './core/ops/constant.js';
export {
  type ConvOptions,
  type ConvTransposeOptions,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
} from './core/ops/conv.js';
export { type CumulativeOptions, cumprod, cumsum } from './core/ops/cumulative.js';
export { einsum } from './core/ops/einsum.js';
export {
  abs,
  add,
  type ClipOptions,
  ceil,
  clip,
  cos,
  div,
  erf,
  exp,
  expm1,
  floor,
  type GeluOptions,
  gelu,
  log,
  log1p,
  maximum,
  minimum,
  mul,
  neg,
  pow,
  reciprocal,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  sqrt,
  square,
  sub,
  tanh,
} from './core/ops/elementwise.js';
export { gather, gatherElements, oneHot, scatterAdd, takeAlongAxis } from './core/ops/indexing.js';
export { matmul } from './core/ops/linalg.js';
export { concat, flip, type PadOptions, pad, slice, split, transpose } from './core/ops/movement.js';
export {
  type AdaptivePoolOptions,
  type AvgPoolOptions,
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveAvgPool3d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  adaptiveMaxPool3d,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  type GlobalPoolOptions,
  globalAvgPool,
  globalMaxPool,
  type MaxPoolOptions,
  maxPool1d,
  maxPool2d,
  maxPool3d,
} from './core/ops/pool.js';
export {
  type ArgReduceOptions,
  argMax,
  argMin,
  logSumExp,
  max,
  mean,
  min,
  norm,
  prod,
  type VarianceOptions,
  variance,
} from './core/ops/reduce.js';
export {
  cast,
  equal,
  greater,
  greaterEqual,
  isFinite,
  less,
  lessEqual,
  logicalAnd,
  logicalNot,
  logicalOr,
  logicalXor,
  notEqual,
  type TensorOrNumber,
  where,
} from './core/ops/select.js';
export { logSoftmax, type SoftmaxOptions, softmax } from './core/ops/softmax.js';
export { argsort, type SortOptions, sort, type TopKOptions, topK } from './core/ops/sort.js';
export type { Padding, PerAxis, SpatialRank, WindowOptions } from './core/ops/window.js';
export { createRng, foldIn, keyFromSeed, permutation, type Rng, type RngKey, type RngState } from './core/rng.js';
export type { Shape } from './core/shape.js';
export type { Attribute, Emitter, Node, Op, RangeCheck, Spec, Tensor } from './core/tensor.js';
export type { Tree } from './core/tree.js';
export type { ArrayInputs, Arrays, Tensors } from './core/types.js';
export { type ExportOptions, exportOnnx } from './onnx/export.js';
export type { Backend, Device } from './runtime/backend.js';
export { type Compiled, type CompileOptions, compile } from './runtime/compile.js';
export type { Axes } from './runtime/edge.js';
