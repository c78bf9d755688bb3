import * as conv from '../../../src/core/ops/conv.js';
import { conv2d, type Window2d } from '../../../src/index.js';
import { normal } from '../../support/draw.js';
import { type OpCase, type OpOptions, op, testOps } from '../../support/test-ops.js';

const row = (what: string, x: readonly number[], weight: readonly number[], options: Window2d = {}, test: OpOptions = {}): OpCase =>
  op(`conv2d ${what}`, [normal(x), normal(weight)], (a, b) => conv2d(a, b, options), test);

const cases = [
  // The gradient of the weight has a formulation for each of these.
  row('of few channels', [2, 3, 5, 6], [2, 3, 3, 2]),
  row('of few channels with stride', [2, 2, 6, 5], [3, 2, 3, 3], { stride: 2, padding: 1 }),
  row('of 1x1 kernels', [2, 6, 3, 4], [3, 6, 1, 1]),
  row('of 1x1 kernels with stride', [2, 6, 5, 4], [3, 6, 1, 1], { stride: [2, 3] }),
  row('of 1x1 kernels with padding', [1, 5, 3, 2], [2, 5, 1, 1], { padding: 1 }),
  row('of 1x1 kernels and very many channels', [1, 256, 2, 2], [2, 256, 1, 1]),
  row('of 1x1 kernels, stride and very many channels', [1, 256, 3, 3], [2, 256, 1, 1], { stride: 2 }),
  row('of many channels with stride', [2, 5, 6, 7], [2, 5, 3, 2], { stride: 2, padding: 1 }),
  row('of many channels with stride in one direction', [1, 6, 5, 7], [2, 6, 2, 3], { stride: [1, 3] }),
  row('of many channels', [2, 5, 5, 4], [3, 5, 3, 3], { padding: 1 }),
  // Padding and dilation.
  row("with padding 'same'", [1, 2, 5, 6], [2, 2, 3, 4], { padding: 'same' }),
  row("with padding 'same' and stride", [1, 5, 7, 6], [2, 5, 3, 3], { padding: 'same', stride: [2, 3] }),
  row("with padding 'valid'", [1, 2, 4, 4], [1, 2, 3, 3], { padding: 'valid' }),
  row('with padding per axis', [1, 5, 4, 4], [2, 5, 3, 3], { padding: [2, 0] }),
  row('with padding per side', [1, 5, 4, 5], [2, 5, 3, 2], {
    padding: [
      [0, 2],
      [1, 0],
    ],
  }),
  row('with padding per side and stride', [1, 3, 6, 5], [2, 3, 3, 3], {
    padding: [
      [1, 0],
      [0, 2],
    ],
    stride: 2,
  }),
  row('with more padding than the kernel is wide', [1, 1, 3, 3], [1, 1, 2, 2], { padding: 3 }),
  row('with dilation', [1, 5, 7, 6], [2, 5, 3, 2], { dilation: [2, 3] }),
  row('with dilation, stride and padding', [2, 5, 8, 7], [2, 5, 3, 3], {
    dilation: 2,
    stride: [3, 2],
    padding: [
      [1, 2],
      [2, 0],
    ],
  }),
  row('of few channels with dilation and stride', [1, 2, 8, 7], [2, 2, 2, 3], { dilation: [3, 2], stride: 2 }),
  // Extremes.
  row('that leaves rows and columns unused', [1, 5, 8, 9], [2, 5, 3, 3], { stride: 4 }),
  row('as large as the image', [2, 5, 3, 4], [3, 5, 3, 4]),
  row('of one pixel', [2, 1, 1, 1], [3, 1, 1, 1]),
  row('of no images', [0, 3, 4, 4], [2, 3, 3, 3]),
  op('conv2d with a bias', [normal([2, 3, 4, 5]), normal([2, 3, 3, 3]), normal([2])], (x, weight, bias) =>
    conv2d(x, weight, { bias, padding: 1 }),
  ),
];

const large = [
  row('of few channels', [2, 3, 80, 80], [8, 3, 3, 3], { padding: 1 }),
  row('of many channels', [4, 8, 64, 64], [2, 8, 3, 3], { padding: 1 }),
  row('of many channels with stride', [4, 8, 64, 64], [2, 8, 3, 3], { padding: 1, stride: 2 }),
  row('of 1x1 kernels', [4, 8, 64, 64], [4, 8, 1, 1]),
];

testOps(conv, cases, large);
