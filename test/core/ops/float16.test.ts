import {
  adaptiveAvgPool2d,
  adaptiveMaxPool2d,
  add,
  avgPool2d,
  cast,
  concat,
  conv1d,
  conv2d,
  conv3d,
  convTranspose2d,
  cumprod,
  cumsum,
  div,
  einsum,
  exp,
  flip,
  gather,
  gelu,
  globalAvgPool,
  globalMaxPool,
  greater,
  log,
  logSoftmax,
  logSumExp,
  matmul,
  max,
  maximum,
  maxPool2d,
  mean,
  mul,
  pad,
  relu,
  scatterAdd,
  sigmoid,
  slice,
  softmax,
  sort,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  takeAlongAxis,
  tanh,
  topK,
  transpose,
  variance,
  where,
} from '../../../src/index.js';
import { type Argument, distinct, given, integers, normal, positive } from '../../support/draw.js';
import { type OpCase, op, testOps } from '../../support/test-ops.js';

/** A row in float16. The software GPU has no float16, so only the CPU runs it. */
const half = (name: string, inputs: readonly Argument[], run: OpCase['run'], order: 0 | 1 = 1): OpCase =>
  op(name, inputs, run, { order, rtol: 2e-3, webgpu: false });

const floats = (shape: readonly number[]) => normal(shape, 'float16');
const positives = (shape: readonly number[]) => positive(shape, 'float16');

const layerNormLike = (x: Tensor, weight: Tensor, bias: Tensor): Tensor => {
  const centered = sub(x, mean(x, { axis: -1, keepDims: true }));
  const deviation = sqrt(add(variance(x, { axis: -1, keepDims: true }), 1e-3));
  return add(mul(div(centered, deviation), weight), bias);
};

const cases = [
  half('arithmetic', [floats([3, 4]), positives([4])], (a, b) => div(mul(sub(add(a, b), 0.5), b), b)),
  half('elementwise functions', [positives([3, 4])], (x) => [exp(x), log(x), sqrt(x), tanh(x), sigmoid(x), square(x), gelu(x)]),
  half('functions with kinks', [distinct([3, 4], 'float16')], (x) => [
    relu(x),
    maximum(x, 0.5),
    where(greater(x, 0), x, 1),
    max(x, { axis: 1 }),
  ]),
  half('sum', [positives([3, 40])], (x) => [sum(x), sum(x, { axis: 0 })]),
  half('sum of many small numbers', [given([20000], Array(20000).fill(1 / 1024), 'float16')], (x) => sum(x), 0),
  half('mean', [floats([3, 40])], (x) => [mean(x), mean(x, { axis: 0 })]),
  half('mean whose sum exceeds the range', [given([70000], Array(70000).fill(2), 'float16')], (x) => mean(x), 0),
  half('variance whose sum exceeds the range', [given([2, 2], [-200, 200, -200, 200], 'float16')], (x) => variance(x), 0),
  half('softmax', [floats([3, 5])], (x) => [softmax(x), logSoftmax(x, { axis: 0 }), logSumExp(x)]),
  half('logSumExp whose sum exceeds the range', [given([70000], Array(70000).fill(0), 'float16')], (x) => logSumExp(x), 0),
  half('matmul', [floats([3, 8]), floats([8, 4])], (a, b) => [matmul(a, b), matmul(transpose(b), transpose(a))]),
  half('matmul of batches', [floats([2, 3, 8]), floats([8, 4])], matmul),
  half('layer normalization', [floats([4, 16]), positives([16]), floats([16])], layerNormLike),
  half('convolution', [floats([2, 5, 5, 5]), floats([3, 5, 3, 3])], (x, weight) => conv2d(x, weight, { padding: 1, stride: 2 })),
  half('convolution of groups', [floats([2, 4, 5]), floats([4, 1, 3]), floats([4])], (x, weight, bias) =>
    conv1d(x, weight, { groups: 4, bias }),
  ),
  half('convolution along three axes', [floats([1, 2, 3, 4, 3]), floats([2, 2, 2, 2, 2])], (x, weight) => conv3d(x, weight)),
  half('transposed convolution', [floats([1, 3, 3, 2]), floats([3, 2, 2, 3])], (x, weight) => convTranspose2d(x, weight, { stride: 2 })),
  half('pooling', [distinct([1, 2, 5, 5], 'float16')], (x) => [
    maxPool2d(x, { kernelSize: 3, stride: 2, padding: 1 }),
    avgPool2d(x, { kernelSize: 3, stride: 2, padding: 1, countIncludePad: false }),
    globalAvgPool(x),
    globalMaxPool(x),
    adaptiveAvgPool2d(x, { outputSize: 2 }),
    adaptiveMaxPool2d(x, { outputSize: 3 }),
  ]),
  half('lookups', [floats([4, 3]), integers([5], 0, 3)], (x, i) => gather(x, i)),
  half('picks', [floats([4, 3]), integers([4, 2], 0, 2)], (x, i) => takeAlongAxis(x, i)),
  half('movement', [floats([4, 3])], (x) => [
    concat([x, transpose(x)].map((y) => slice(y, [0, 0], [3, 3]))),
    pad(
      x,
      [
        [1, 0],
        [0, 1],
      ],
      { value: 0.5 },
    ),
  ]),
  half('sums at indices', [floats([2, 3]), integers([2, 4], 0, 2), floats([2, 4])], (x, i, u) => scatterAdd(x, i, u)),
  half('running sums and products', [floats([2, 700])], (x) => [cumsum(x), cumprod(slice(x, [0, 0], [2, 5]))]),
  half('order', [distinct([2, 5], 'float16')], (x) => [...topK(x, 2), sort(x, { axis: 0 })]),
  half('sums of products', [floats([2, 3]), floats([4, 3])], (x, y) => einsum('ij,kj->ki', x, y)),
  half('reversal', [floats([4, 3])], (x) => [
    flip(x),
    pad(
      x,
      [
        [1, 2],
        [0, 1],
      ],
      { mode: 'reflect' },
    ),
  ]),
  half('mixed with float32', [floats([3, 4]), normal([4, 2])], (x, w) => matmul(cast(x, 'float32'), w)),
];

testOps({}, cases, []);
