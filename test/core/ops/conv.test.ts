import * as conv from '../../../src/core/ops/conv.js';
import {
  type ConvTransposeOptions,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
  type SpatialRank,
  type Tensor,
} from '../../../src/index.js';
import { normal } from '../../support/draw.js';
import { type OpCase, op, testOps } from '../../support/test-ops.js';

type Options = Omit<ConvTransposeOptions<SpatialRank>, 'bias'>;

const functions = { conv1d, conv2d, conv3d, convTranspose1d, convTranspose2d, convTranspose3d } as unknown as Record<
  string,
  (x: Tensor, weight: Tensor, options: ConvTransposeOptions<SpatialRank>) => Tensor
>;

/** A row; with a bias of that many channels if there is a number. */
const row = (name: string, x: readonly number[], weight: readonly number[], options: Options = {}, biased?: number): OpCase => {
  const run = functions[name.split(' ')[0] as string] as (typeof functions)[string];
  return biased === undefined
    ? op(name, [normal(x), normal(weight)], (a, b) => run(a, b, options))
    : op(name, [normal(x), normal(weight), normal([biased])], (a, b, bias) => run(a, b, { ...options, bias }));
};

const cases = [
  // The gradient of the weight has a formulation for each of these.
  row('conv2d of few channels', [2, 3, 5, 6], [2, 3, 3, 2]),
  row('conv2d of few channels with stride', [2, 2, 6, 5], [3, 2, 3, 3], { stride: 2, padding: 1 }),
  row('conv2d of 1x1 kernels', [2, 6, 3, 4], [3, 6, 1, 1]),
  row('conv2d of 1x1 kernels with stride', [2, 6, 5, 4], [3, 6, 1, 1], { stride: [2, 3] }),
  row('conv2d of 1x1 kernels with padding', [1, 5, 3, 2], [2, 5, 1, 1], { padding: 1 }),
  row('conv2d of 1x1 kernels and very many channels', [1, 256, 2, 2], [2, 256, 1, 1]),
  row('conv2d of 1x1 kernels, stride and very many channels', [1, 256, 3, 3], [2, 256, 1, 1], { stride: 2 }),
  row('conv2d of many channels with stride', [2, 5, 6, 7], [2, 5, 3, 2], { stride: 2, padding: 1 }),
  row('conv2d of many channels with stride in one direction', [1, 6, 5, 7], [2, 6, 2, 3], { stride: [1, 3] }),
  row('conv2d of many channels', [2, 5, 5, 4], [3, 5, 3, 3], { padding: 1 }),
  // Padding and dilation.
  row("conv2d with padding 'same'", [1, 2, 5, 6], [2, 2, 3, 4], { padding: 'same' }),
  row("conv2d with padding 'same' and stride", [1, 5, 7, 6], [2, 5, 3, 3], { padding: 'same', stride: [2, 3] }),
  row("conv2d with padding 'valid'", [1, 2, 4, 4], [1, 2, 3, 3], { padding: 'valid' }),
  row('conv2d with padding per axis', [1, 5, 4, 4], [2, 5, 3, 3], { padding: [2, 0] }),
  row('conv2d with padding per side', [1, 5, 4, 5], [2, 5, 3, 2], {
    padding: [
      [0, 2],
      [1, 0],
    ],
  }),
  row('conv2d with padding per side and stride', [1, 3, 6, 5], [2, 3, 3, 3], {
    padding: [
      [1, 0],
      [0, 2],
    ],
    stride: 2,
  }),
  row('conv2d with more padding than the kernel is wide', [1, 1, 3, 3], [1, 1, 2, 2], { padding: 3 }),
  row('conv2d with dilation', [1, 5, 7, 6], [2, 5, 3, 2], { dilation: [2, 3] }),
  row('conv2d with dilation, stride and padding', [2, 5, 8, 7], [2, 5, 3, 3], {
    dilation: 2,
    stride: [3, 2],
    padding: [
      [1, 2],
      [2, 0],
    ],
  }),
  row('conv2d of few channels with dilation and stride', [1, 2, 8, 7], [2, 2, 2, 3], { dilation: [3, 2], stride: 2 }),
  // Extremes.
  row('conv2d that leaves rows and columns unused', [1, 5, 8, 9], [2, 5, 3, 3], { stride: 4 }),
  row('conv2d as large as the image', [2, 5, 3, 4], [3, 5, 3, 4]),
  row('conv2d of one pixel', [2, 1, 1, 1], [3, 1, 1, 1]),
  row('conv2d of no images', [0, 3, 4, 4], [2, 3, 3, 3]),
  row('conv2d with a bias', [2, 3, 4, 5], [2, 3, 3, 3], { padding: 1 }, 2),
  row('conv2d with a dilation that the stride divides', [1, 5, 9, 8], [2, 5, 3, 2], { dilation: [2, 4], stride: 2 }),
  row('conv2d with windows of nothing but padding', [1, 5, 1, 3], [2, 5, 5, 2], { padding: [[8, 0], 0], stride: [5, 1] }),
  // Groups.
  row('conv2d of groups of few channels', [2, 4, 5, 4], [6, 2, 3, 2], { groups: 2 }),
  row('conv2d of groups of many channels', [1, 10, 4, 4], [4, 5, 2, 3], { groups: 2, padding: 1 }),
  row('conv2d of groups of many channels with stride', [2, 10, 6, 5], [2, 5, 3, 2], { groups: 2, stride: 2, dilation: [2, 1] }),
  row('conv2d of groups of 1x1 kernels', [2, 6, 3, 4], [4, 3, 1, 1], { groups: 2 }),
  row('conv2d of groups with one result each', [2, 6, 5, 4], [2, 3, 3, 2], { groups: 2, padding: [[1, 0], 2] }),
  row('conv2d of groups with a bias', [1, 4, 4, 3], [4, 2, 2, 2], { groups: 2, stride: [1, 2] }, 4),
  row('conv2d of single channels', [2, 3, 5, 4], [3, 1, 3, 3], { groups: 3, padding: 1 }),
  row('conv2d of single channels with stride', [2, 3, 7, 6], [3, 1, 3, 3], { groups: 3, padding: 'same', stride: 2 }),
  row('conv2d of single channels to several', [1, 3, 4, 5], [6, 1, 2, 3], { groups: 3, dilation: 2, padding: 1 }),
  // Where kernels of WebGPU are wrong.
  row('conv2d of six channels', [1, 6, 4, 3], [4, 6, 2, 2], { padding: 1 }, 4),
  row('conv2d of nine channels and 1x1 kernels with stride', [1, 9, 3, 4], [4, 9, 1, 1], { stride: 2 }),
  row('conv2d as large as the image, padded at the end', [2, 5, 3, 2], [3, 5, 3, 2], { padding: [[0, 2], 0] }, 3),
  row('conv2d of 1x1 kernels, padded at the end', [2, 5, 2, 3], [3, 5, 1, 1], {
    padding: [
      [0, 1],
      [0, 2],
    ],
  }),
  row('conv2d of groups of six results', [1, 4, 3, 4], [12, 2, 2, 2], { groups: 2 }, 12),
  row('convTranspose2d of groups with one result each', [1, 4, 3, 2], [4, 1, 2, 3], { groups: 2, stride: 2 }, 2),
  // Other ranks.
  row('conv1d of few channels', [2, 3, 6], [2, 3, 3], { padding: 1 }),
  row('conv1d of few channels with stride', [2, 3, 8], [2, 3, 3], { stride: 2 }),
  row('conv1d of many channels', [2, 5, 7], [3, 5, 3], { padding: [[2, 0]] }),
  row('conv1d of many channels with stride and dilation', [2, 5, 12], [3, 5, 3], { stride: [3], dilation: 2, padding: 1 }),
  row('conv1d of groups with a bias', [2, 4, 6], [6, 2, 2], { groups: 2 }, 6),
  row('conv1d of single channels', [2, 3, 6], [3, 1, 3], { groups: 3, padding: 'same' }),
  row('conv1d of one element', [1, 2, 1], [2, 2, 1]),
  row('conv3d of few channels', [1, 2, 3, 4, 3], [2, 2, 2, 2, 3]),
  row('conv3d of few channels with stride', [1, 2, 3, 4, 5], [2, 2, 2, 3, 2], { stride: [1, 2, 3], padding: 1 }),
  row('conv3d of many channels', [1, 5, 3, 3, 2], [2, 5, 2, 2, 2], { padding: [0, 1, [1, 0]] }),
  row('conv3d of many channels with stride and dilation', [1, 5, 4, 5, 3], [2, 5, 2, 2, 2], { stride: 2, dilation: [1, 3, 2] }),
  row('conv3d of groups', [2, 4, 3, 3, 3], [2, 2, 2, 3, 2], { groups: 2, padding: [1, 0, 0] }),
  row(
    'conv3d of groups with a bias, stride and dilation',
    [1, 4, 5, 4, 3],
    [4, 2, 2, 2, 2],
    { groups: 2, stride: 2, dilation: [3, 1, 2], padding: 1 },
    4,
  ),
  row('conv3d of single channels', [1, 3, 3, 2, 4], [3, 1, 3, 2, 2], { groups: 3, padding: 'same' }),
  row('conv3d with a bias', [1, 2, 2, 3, 2], [2, 2, 2, 2, 1], {}, 2),
  row('conv3d of no volumes', [0, 2, 3, 3, 3], [4, 1, 2, 2, 2], { groups: 2 }),
  // Transposed.
  row('convTranspose1d with stride', [2, 3, 4], [3, 2, 3], { stride: 2, outputPadding: 1 }),
  row('convTranspose1d of groups with a bias', [2, 4, 4], [4, 3, 2], { groups: 2, padding: [[0, 1]] }, 6),
  row('convTranspose2d with stride 1', [2, 5, 3, 4], [5, 2, 3, 2], { padding: [1, 0] }),
  row('convTranspose2d with stride', [1, 3, 3, 2], [3, 2, 3, 2], { stride: [2, 3], padding: [[1, 0], 0] }),
  row('convTranspose2d with output padding', [2, 3, 2, 3], [3, 2, 2, 3], { stride: 3, outputPadding: [1, 2], padding: 1 }),
  row('convTranspose2d with dilation', [1, 2, 3, 3], [2, 3, 2, 2], { dilation: [1, 3], padding: 1 }),
  row('convTranspose2d with dilation, stride and a bias', [1, 5, 2, 3], [5, 2, 2, 3], { dilation: 2, stride: 2, outputPadding: [0, 1] }, 2),
  row("convTranspose2d with padding 'same'", [1, 2, 3, 2], [2, 2, 3, 4], { padding: 'same', stride: 2 }),
  row("convTranspose2d with padding 'same' and gaps", [1, 2, 2, 3], [2, 1, 1, 2], { padding: 'same', stride: [3, 1] }),
  row("convTranspose2d with padding 'valid'", [1, 2, 2, 3], [2, 1, 2, 2], { padding: 'valid' }),
  row('convTranspose2d with more padding than the kernel is wide', [1, 2, 6, 5], [2, 2, 2, 1], { padding: [2, 1] }),
  row('convTranspose2d of groups', [2, 6, 3, 2], [6, 2, 2, 2], { groups: 3, stride: [1, 2], outputPadding: [0, 1] }),
  row('convTranspose2d of groups with stride 1 and a bias', [1, 4, 3, 3], [4, 3, 3, 2], { groups: 2 }, 6),
  row('convTranspose2d of single channels', [1, 3, 3, 3], [3, 1, 3, 3], { groups: 3, stride: 2, padding: 1, outputPadding: 1 }),
  row('convTranspose3d with stride 1', [1, 2, 2, 3, 2], [2, 3, 2, 2, 2], { padding: [0, 1, 0] }, 3),
  row('convTranspose3d with stride', [1, 3, 2, 2, 3], [3, 2, 3, 2, 2], { stride: [2, 1, 2], padding: [1, 0, 0], outputPadding: [1, 0, 1] }),
  row('convTranspose3d with dilation, stride and a bias', [2, 2, 2, 3, 2], [2, 1, 2, 2, 2], { dilation: [3, 1, 2], stride: 2 }, 1),
  row('convTranspose3d of groups', [1, 4, 2, 2, 3], [4, 2, 2, 1, 2], { groups: 2, stride: [3, 2, 1], outputPadding: [2, 0, 0] }, 4),
  row('convTranspose3d of groups with stride 1', [1, 4, 2, 3, 2], [4, 1, 2, 2, 2], { groups: 4, padding: [1, 0, 0] }),
  row("convTranspose3d with padding 'same'", [1, 2, 2, 2, 1], [2, 2, 3, 2, 3], { padding: 'same', stride: 2 }),
];

const large = [
  row('conv2d of few channels', [2, 3, 80, 80], [8, 3, 3, 3], { padding: 1 }),
  row('conv2d of many channels', [4, 8, 64, 64], [2, 8, 3, 3], { padding: 1 }),
  row('conv2d of many channels with stride', [4, 8, 64, 64], [2, 8, 3, 3], { padding: 1, stride: 2 }),
  row('conv2d of 1x1 kernels', [4, 8, 64, 64], [4, 8, 1, 1]),
  row('conv1d of many channels', [8, 16, 800], [8, 16, 5], { padding: 2, dilation: 2 }),
  row('conv2d of groups with stride', [4, 8, 64, 64], [8, 2, 3, 3], { groups: 4, padding: 1, stride: 2 }),
  row('conv2d of single channels', [4, 8, 64, 64], [8, 1, 3, 3], { groups: 8, padding: 1 }),
  row('conv3d of many channels', [2, 8, 20, 20, 20], [2, 8, 3, 3, 3], { padding: 1 }),
  row('conv3d of single channels with stride', [2, 8, 20, 20, 20], [8, 1, 3, 3, 3], { groups: 8, padding: 1, stride: 2 }),
  row('convTranspose1d with stride', [8, 16, 400], [16, 8, 5], { stride: 4, padding: 1 }),
  row('convTranspose2d with stride', [4, 8, 40, 40], [8, 8, 4, 4], { stride: 2, padding: 1 }),
  row('convTranspose3d with stride', [2, 8, 12, 12, 12], [8, 4, 3, 3, 3], { stride: 2, padding: 1, outputPadding: 1 }),
];

testOps(conv, cases, large);
