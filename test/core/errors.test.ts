import { describe, expect, it } from 'vitest';
import { checkNumber, checkOneOf, checkOptions, show } from '../../src/core/errors.js';
import {
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  add,
  arange,
  argsort,
  array,
  avgPool2d,
  broadcastTo,
  cast,
  concat,
  constant,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
  createRng,
  cumprod,
  cumsum,
  einsum,
  equal,
  exp,
  flip,
  foldIn,
  full,
  gather,
  gelu,
  globalAvgPool,
  globalMaxPool,
  grad,
  gradients,
  greater,
  less,
  logicalAnd,
  logicalNot,
  logSumExp,
  matmul,
  max,
  maximum,
  maxPool1d,
  maxPool2d,
  mean,
  mul,
  neg,
  oneHot,
  ones,
  pad,
  permutation,
  reshape,
  scatterAdd,
  slice,
  softmax,
  sort,
  split,
  square,
  stopGradient,
  sum,
  type Tensor,
  takeAlongAxis,
  topK,
  transpose,
  valueAndGrad,
  variance,
  vjp,
  where,
} from '../../src/index.js';
import { leaf } from '../support/leaves.js';

/** Lets a test pass what the types forbid. */
const wrong = (value: unknown): never => value as never;

const x = leaf([2, 3]);
const integers = leaf([2], 'int32');
const mask = leaf([2, 3], 'bool');
const image = leaf([1, 2, 4, 4]);
const kernels = leaf([3, 2, 2, 2]);
const floats = (...shape: number[]): Tensor => leaf(shape);

/** Calls with the errors they throw, kind and text. */
const errors: Record<string, readonly (readonly [() => unknown, string])[]> = {
  'operands of arithmetic': [
    [() => add(x, floats(2, 4)), 'RangeError: add: the shapes of a [2, 3] and b [2, 4] do not broadcast'],
    [() => add(x, leaf([2, 3], 'int32')), 'TypeError: add: a is float32 and b is int32; convert one of them with cast()'],
    [() => maximum(x, mask), 'TypeError: maximum: a is float32 and b is bool; convert one of them with cast()'],
    [() => add(mask, mask), 'TypeError: add: a: expected a numeric Tensor (cast a mask first), received bool[2, 3]'],
    [() => add(mask, 1), 'TypeError: add: b: expected a bool Tensor, as the dtype is bool, received 1'],
    [() => add(integers, 0.5), 'RangeError: add: b: expected a 32-bit integer, as the dtype is int32, received 0.5'],
    [() => mul(2 ** 31, integers), 'RangeError: mul: a: expected a 32-bit integer, as the dtype is int32, received 2147483648'],
    [() => add(x, wrong('1')), "TypeError: add: b: expected a Tensor or a number, received '1'"],
    [() => add(wrong('1'), x), "TypeError: add: a: expected a Tensor, received '1'"],
    [() => add(1, wrong('1')), "TypeError: add: b: expected a Tensor, received '1'"],
    [() => mul(wrong(undefined), x), 'TypeError: mul: a: expected a Tensor (is a parameter missing?), received undefined'],
    [() => add(wrong([1, 2]), x), 'TypeError: add: a: expected a Tensor, received [1, 2]'],
    [() => add(wrong(array([1, 2])), x), 'TypeError: add: a: expected a Tensor, received an array float32[2]'],
  ],
  'elementwise functions': [
    [() => neg(wrong(1)), 'TypeError: neg: x: expected a Tensor, received 1'],
    [() => neg(mask), 'TypeError: neg: x: expected a numeric Tensor, received bool[2, 3]'],
    [() => exp(integers), 'TypeError: exp: x: expected a float32 or float16 Tensor, received int32[2]'],
    [() => gelu(x, { approximate: wrong('erf') }), "RangeError: gelu: approximate: expected one of 'none', 'tanh', received 'erf'"],
    [() => gelu(x, wrong({ approximation: 'tanh' })), "TypeError: gelu: unknown option 'approximation'; the options are approximate"],
    [() => gelu(x, wrong(null)), 'TypeError: gelu: options: expected an object, received null'],
  ],
  'comparisons and choices': [
    [() => equal(mask, mask), 'TypeError: equal: a: expected a numeric Tensor, received bool[2, 3]'],
    [() => greater(x, wrong('1')), "TypeError: greater: b: expected a Tensor or a number, received '1'"],
    [() => less(x, floats(4)), 'RangeError: less: the shapes of a [2, 3] and b [4] do not broadcast'],
    [() => logicalNot(x), 'TypeError: logicalNot: x: expected a bool Tensor, received float32[2, 3]'],
    [() => logicalAnd(mask, x), 'TypeError: logicalAnd: a is bool and b is float32; convert one of them with cast()'],
    [() => logicalAnd(mask, wrong(1)), 'TypeError: logicalAnd: b: expected a bool Tensor, as the dtype is bool, received 1'],
    [() => where(x, 1, 2), 'TypeError: where: condition: expected a bool Tensor, received float32[2, 3]'],
    [() => where(wrong(true), 1, 2), 'TypeError: where: condition: expected a Tensor, received true'],
    [() => where(mask, floats(4), 0), 'RangeError: where: the shapes of condition [2, 3] and of the values [4] do not broadcast'],
    [() => where(mask, floats(2, 2), floats(4)), 'RangeError: where: the shapes of a [2, 2] and b [4] do not broadcast'],
    [() => where(mask, x, leaf([3], 'int32')), 'TypeError: where: a is float32 and b is int32; convert one of them with cast()'],
    [() => where(mask, 1, wrong('x')), "TypeError: where: b: expected a Tensor, received 'x'"],
    [() => cast(x, wrong('float64')), "RangeError: cast: dtype: expected 'float32', 'float16', 'int32' or 'bool', received 'float64'"],
  ],
  constants: [
    [() => full([-1], 0), 'TypeError: full: shape: expected a list of integers >= 0, received [-1]'],
    [() => full([2], 0.5, 'int32'), 'RangeError: full: value: expected a 32-bit integer, as the dtype is int32, received 0.5'],
    [() => full([2], wrong('x')), "TypeError: full: value: expected a number, received 'x'"],
    [() => full([2], wrong(x)), 'TypeError: full: value: expected a number, received float32[2, 3]'],
    [() => full([2], wrong(true), 'bool'), 'TypeError: full: value: expected a number, received true'],
    [() => ones([2], wrong('long')), "RangeError: full: dtype: expected 'float32', 'float16', 'int32' or 'bool', received 'long'"],
    [() => constant([1.5], { dtype: 'int32' }), 'RangeError: array: value: expected integers within 32 bits, received 1.5'],
    [() => arange(-1), 'RangeError: arange: length: expected an integer from 0 to 2^24, received -1'],
    [() => arange(2 ** 24 + 1), 'RangeError: arange: length: expected an integer from 0 to 2^24, received 16777217'],
    [() => arange(3, 'bool'), "RangeError: arange: dtype: expected 'int32' or 'float32', received 'bool'"],
  ],
  'reshape and broadcastTo': [
    [() => reshape(x, [4]), 'RangeError: reshape: shape: expected 6 elements, as x has with shape [2, 3], received [4]'],
    [() => reshape(x, [-1, 4]), 'RangeError: reshape: shape: expected 6 elements, as x has with shape [2, 3], received [-1, 4]'],
    [() => reshape(x, [-1, -1]), 'TypeError: reshape: shape: expected a list of integers >= 0, received [-1]'],
    [() => reshape(x, wrong(6)), 'TypeError: reshape: shape: expected a list of integers >= 0, received 6'],
    [() => broadcastTo(x, [2, 4]), 'RangeError: broadcastTo: shape: expected a shape to which x ([2, 3]) broadcasts, received [2, 4]'],
    [() => broadcastTo(x, [3]), 'RangeError: broadcastTo: shape: expected a shape to which x ([2, 3]) broadcasts, received [3]'],
  ],
  reductions: [
    [() => sum(x, wrong({ axes: 0 })), "TypeError: sum: unknown option 'axes'; the options are axis, keepDims"],
    [() => sum(x, wrong(0)), 'TypeError: sum: options: expected an object, received 0'],
    [() => sum(x, { axis: 2 }), 'RangeError: sum: axis: expected an axis of a rank-2 Tensor, received 2'],
    [() => sum(x, { axis: [0, -2] }), 'RangeError: sum: axis: expected axes without repetition, received [0, -2]'],
    [() => sum(mask), 'TypeError: sum: x: expected a numeric Tensor (cast a mask first), received bool[2, 3]'],
    [() => mean(integers), 'TypeError: mean: x: expected a float32 or float16 Tensor, received int32[2]'],
    [() => mean(x, wrong({ dim: 0 })), "TypeError: mean: unknown option 'dim'; the options are axis, keepDims"],
    [() => max(floats(0, 3), { axis: 0 }), 'RangeError: max: x: expected at least one element to reduce, received float32[0, 3]'],
    [() => max(mask), 'TypeError: max: x: expected a numeric Tensor, received bool[2, 3]'],
    [() => logSumExp(floats(2, 0)), 'RangeError: logSumExp: x: expected at least one element to reduce, received float32[2, 0]'],
    [() => variance(x, { correction: 6 }), 'RangeError: variance: correction: expected a number below the 6 elements reduced, received 6'],
    [() => variance(x, { correction: -1 }), 'RangeError: variance: correction: expected a number >= 0, received -1'],
    [() => softmax(floats()), 'RangeError: softmax: axis: expected an axis of a rank-0 Tensor, received -1'],
    [() => softmax(x, wrong({ dim: 1 })), "TypeError: softmax: unknown option 'dim'; the options are axis"],
  ],
  order: [
    [() => topK(integers, 1), 'TypeError: topK: x: expected a float32 or float16 Tensor, received int32[2]'],
    [() => topK(x, 4), 'RangeError: topK: k: expected an integer from 1 to the size of axis 1, 3, received 4'],
    [() => topK(x, 0), 'RangeError: topK: k: expected an integer from 1 to the size of axis 1, 3, received 0'],
    [() => topK(floats(), 1), 'RangeError: topK: axis: expected an axis of a rank-0 Tensor, received -1'],
    [() => topK(x, 1, { largest: wrong(0) }), 'TypeError: topK: largest: expected true or false, received 0'],
    [() => topK(x, 1, wrong({ sorted: true })), "TypeError: topK: unknown option 'sorted'; the options are axis, largest"],
    [() => sort(mask), 'TypeError: sort: x: expected a float32 or float16 Tensor, received bool[2, 3]'],
    [() => sort(x, { axis: 2 }), 'RangeError: sort: axis: expected an axis of a rank-2 Tensor, received 2'],
    [() => argsort(x, { descending: wrong('yes') }), "TypeError: argsort: descending: expected true or false, received 'yes'"],
    [() => argsort(x, wrong({ stable: true })), "TypeError: argsort: unknown option 'stable'; the options are axis, descending"],
  ],
  'running sums and products': [
    [() => cumsum(mask), 'TypeError: cumsum: x: expected a numeric Tensor (cast a mask first), received bool[2, 3]'],
    [() => cumsum(x, { axis: 2 }), 'RangeError: cumsum: axis: expected an axis of a rank-2 Tensor, received 2'],
    [() => cumsum(x, { reverse: wrong(1) }), 'TypeError: cumsum: reverse: expected true or false, received 1'],
    [() => cumsum(x, wrong({ dim: 1 })), "TypeError: cumsum: unknown option 'dim'; the options are axis, exclusive, reverse"],
    [() => cumprod(integers), 'TypeError: cumprod: x: expected a float32 or float16 Tensor, received int32[2]'],
  ],
  matmul: [
    [() => matmul(x, x), 'RangeError: matmul: the inner sizes of a [2, 3] and b [2, 3] differ: 3 and 2'],
    [() => matmul(floats(2, 2, 3), floats(3, 3, 4)), 'RangeError: matmul: the batch axes of a [2, 2, 3] and b [3, 3, 4] do not broadcast'],
    [() => matmul(floats(), x), 'RangeError: matmul: expected at least one axis each, received a [] and b [2, 3]'],
    [() => matmul(x, leaf([3], 'float16')), 'TypeError: matmul: a is float32 and b is float16; convert one of them with cast()'],
    [() => matmul(x, wrong(2)), 'TypeError: matmul: b: expected a Tensor, received 2'],
  ],
  einsum: [
    [() => einsum(wrong(x)), "TypeError: einsum: equation: expected a string such as 'ij,jk->ik', received float32[2, 3]"],
    [() => einsum('ij'), 'TypeError: einsum: operands: expected at least one Tensor, received []'],
    [() => einsum('i', integers), 'TypeError: einsum: operands[0]: expected a float32 or float16 Tensor, received int32[2]'],
    [
      () => einsum('ij,j', x, leaf([3], 'float16')),
      'TypeError: einsum: operands[1]: expected a float32 Tensor, like the first, received float16[3]',
    ],
    ...['ij->->i', 'i1', 'i..', '...i...', 'i.j', 'ij;'].map(
      (equation) =>
        [
          () => einsum(equation, x),
          `RangeError: einsum: equation: expected letters, at most one '...' per operand, ',' between operands and '->' before the result, received '${equation}'`,
        ] as const,
    ),
    [() => einsum('ij,jk->ik', x), "RangeError: einsum: equation: expected subscripts of 1 operands, received 'ij,jk->ik'"],
    [() => einsum('ijk->i', x), "RangeError: einsum: operands[0]: expected 3 axes, as 'ijk' has, received float32[2, 3]"],
    [() => einsum('ij...k', x), "RangeError: einsum: operands[0]: expected at least 3 axes, as 'ij...k' has, received float32[2, 3]"],
    [() => einsum('ij->ik', x), "RangeError: einsum: equation: expected 'k' in an operand, and once in the result, received 'ij->ik'"],
    [() => einsum('ij->ii', x), "RangeError: einsum: equation: expected 'i' in an operand, and once in the result, received 'ij->ii'"],
    [
      () => einsum('ij,ij->i', x, transpose(x)),
      "RangeError: einsum: operands[1]: expected size 2 along axis 0, which is 'i', received float32[3, 2]",
    ],
    [() => einsum('ii', x), "RangeError: einsum: operands[0]: expected size 2 along axis 1, which is 'i', received float32[2, 3]"],
    [
      () => einsum('i,ii', floats(3), floats(1, 3)),
      "RangeError: einsum: operands[1]: expected size 1 along axis 1, which is 'i', received float32[1, 3]",
    ],
  ],
  convolutions: [
    [() => conv2d(image, floats(3, 2, 0, 1)), 'RangeError: conv2d: weight: expected no axis of size 0, received float32[3, 2, 0, 1]'],
    [
      () => convTranspose2d(floats(1, 0, 4, 4), floats(0, 3, 3, 3)),
      'RangeError: convTranspose2d: x: expected no axis of size 0, but for the first, received float32[1, 0, 4, 4]',
    ],
    [
      () => avgPool2d(floats(1, 0, 4, 4), { kernelSize: 2 }),
      'RangeError: avgPool2d: x: expected no axis of size 0, but for the first, received float32[1, 0, 4, 4]',
    ],
    [
      () => conv2d(image, leaf([3, 1, 2, 2])),
      'RangeError: conv2d: expected x [N, C, H, W] and weight [O, C / groups, kernel height, kernel width] of one dtype, received float32[1, 2, 4, 4] and float32[3, 1, 2, 2] with groups 1',
    ],
    [() => conv2d(image, floats(3, 2, 5, 5)), 'RangeError: conv2d: the window spans 5 elements, but the padded height is 4'],
    [
      () => conv2d(image, floats(3, 2, 1, 3), { dilation: 2 }),
      'RangeError: conv2d: the window spans 5 elements, but the padded width is 4',
    ],
    [
      () => conv2d(image, kernels, { stride: 0 }),
      'RangeError: conv2d: stride: expected an integer >= 1, or a list of one for each of height, width, received 0',
    ],
    [
      () => conv2d(image, kernels, { dilation: wrong([1]) }),
      'RangeError: conv2d: dilation: expected an integer >= 1, or a list of one for each of height, width, received [1]',
    ],
    [
      () => conv2d(image, kernels, { padding: wrong('full') }),
      "TypeError: conv2d: padding: expected 'same', 'valid', an integer >= 0, or a list of one or of [before, after] for each of height, width, received 'full'",
    ],
    [
      () => conv2d(image, kernels, { padding: wrong([1, 1, 1, 1]) }),
      "TypeError: conv2d: padding: expected 'same', 'valid', an integer >= 0, or a list of one or of [before, after] for each of height, width, received [1, 1, 1, 1]",
    ],
    [
      () => conv2d(image, kernels, wrong({ group: 2 })),
      "TypeError: conv2d: unknown option 'group'; the options are stride, padding, dilation, groups, bias",
    ],
    [() => conv2d(image, kernels, { groups: 0 }), 'RangeError: conv2d: groups: expected a positive integer, received 0'],
    [
      () => conv2d(image, kernels, { groups: 2 }),
      'RangeError: conv2d: expected x [N, C, H, W] and weight [O, C / groups, kernel height, kernel width] of one dtype, received float32[1, 2, 4, 4] and float32[3, 2, 2, 2] with groups 2',
    ],
    [
      () => conv2d(image, floats(3, 1, 2, 2), { groups: 2 }),
      'RangeError: conv2d: groups: expected a divisor of the 3 channels of the result, received 2',
    ],
    [() => conv2d(image, kernels, { bias: floats(2) }), 'RangeError: conv2d: bias: expected float32[3], received float32[2]'],
    [
      () => conv1d(image, kernels),
      'RangeError: conv1d: expected x [N, C, L] and weight [O, C / groups, kernel length] of one dtype, received float32[1, 2, 4, 4] and float32[3, 2, 2, 2] with groups 1',
    ],
    [
      () => conv3d(floats(1, 2, 3, 4, 4), floats(3, 2, 4, 2, 2)),
      'RangeError: conv3d: the window spans 4 elements, but the padded depth is 3',
    ],
    [
      () => convTranspose2d(image, kernels),
      'RangeError: convTranspose2d: expected x [N, C, H, W] and weight [C, O / groups, kernel height, kernel width] of one dtype, received float32[1, 2, 4, 4] and float32[3, 2, 2, 2] with groups 1',
    ],
    [
      () => convTranspose2d(image, floats(2, 3, 2, 2), { stride: 2, outputPadding: [1, 2] }),
      'RangeError: convTranspose2d: outputPadding: expected less than the stride, [2, 2], received [1, 2]',
    ],
    [
      () => convTranspose2d(image, floats(2, 3, 2, 2), { stride: 2, outputPadding: 1, padding: 'same' }),
      "RangeError: convTranspose2d: outputPadding: expected 0 with padding 'same', received 1",
    ],
    [
      () => convTranspose1d(floats(1, 2, 2), floats(2, 1, 2), { padding: 2 }),
      'RangeError: convTranspose1d: padding: expected less than what leaves nothing of the result, whose size is [-1], received 2',
    ],
    [
      () => convTranspose2d(image, floats(2, 3, 2, 2), { bias: floats(2) }),
      'RangeError: convTranspose2d: bias: expected float32[3], received float32[2]',
    ],
    [
      () => convTranspose3d(floats(1, 3, 2, 2, 2), floats(3, 1, 2, 2, 2), { groups: 2 }),
      'RangeError: convTranspose3d: groups: expected a divisor of the 3 channels of x, received 2',
    ],
  ],
  pools: [
    [() => maxPool2d(x, { kernelSize: 2 }), 'RangeError: maxPool2d: x: expected a Tensor [N, C, H, W], received float32[2, 3]'],
    [
      () => maxPool2d(image, wrong({})),
      'RangeError: maxPool2d: kernelSize: expected an integer >= 1, or a list of one for each of height, width, received undefined',
    ],
    [() => maxPool2d(image, wrong(undefined)), 'TypeError: maxPool2d: options: expected an object, received undefined'],
    [
      () => maxPool2d(image, { kernelSize: 2, padding: 2 }),
      'RangeError: maxPool2d: padding: expected an element of x in every window, received 2',
    ],
    [
      () => maxPool1d(floats(1, 2, 2), { kernelSize: 2, stride: 1, dilation: 3, padding: 1 }),
      'RangeError: maxPool1d: padding: expected an element of x in every window, received 1',
    ],
    [() => maxPool2d(image, { kernelSize: 5 }), 'RangeError: maxPool2d: the window spans 5 elements, but the padded height is 4'],
    [
      () => avgPool2d(image, wrong({ kernelSize: 2, dilation: 2 })),
      "TypeError: avgPool2d: unknown option 'dilation'; the options are kernelSize, stride, padding, countIncludePad",
    ],
    [
      () => avgPool2d(image, wrong({ kernelSize: 2, countIncludePad: 0 })),
      'TypeError: avgPool2d: countIncludePad: expected true or false, received 0',
    ],
    [
      () => globalAvgPool(x),
      'RangeError: globalAvgPool: x: expected a Tensor [N, C, ...] with at least one spatial axis, received float32[2, 3]',
    ],
    [
      () => globalMaxPool(floats(1, 2, 0)),
      'RangeError: globalMaxPool: x: expected at least one element along every spatial axis, received float32[1, 2, 0]',
    ],
    [
      () => adaptiveAvgPool2d(image, { outputSize: 0 }),
      'RangeError: adaptiveAvgPool2d: outputSize: expected an integer >= 1, or a list of one for each of height, width, received 0',
    ],
    [
      () => adaptiveMaxPool1d(image, { outputSize: 2 }),
      'RangeError: adaptiveMaxPool1d: x: expected a Tensor [N, C, L], received float32[1, 2, 4, 4]',
    ],
  ],
  lookups: [
    [() => gather(x, x), 'TypeError: gather: indices: expected an int32 Tensor, received float32[2, 3]'],
    [() => gather(x, wrong([0, 1])), 'TypeError: gather: indices: expected a Tensor, received [0, 1]'],
    [() => gather(x, integers, { axis: 2 }), 'RangeError: gather: axis: expected an axis of a rank-2 Tensor, received 2'],
    [
      () => takeAlongAxis(x, integers),
      'RangeError: takeAlongAxis: indices: expected the shape of x ([2, 3]) but for axis 1, received int32[2]',
    ],
    [() => scatterAdd(mask, mask, mask), 'TypeError: scatterAdd: x: expected a numeric Tensor, received bool[2, 3]'],
    [() => scatterAdd(x, x, x), 'TypeError: scatterAdd: indices: expected an int32 Tensor, received float32[2, 3]'],
    [
      () => scatterAdd(x, leaf([3, 2], 'int32'), x),
      'RangeError: scatterAdd: indices: expected the shape of x ([2, 3]), or smaller, but for axis 1, received int32[3, 2]',
    ],
    [
      () => scatterAdd(x, leaf([2, 2], 'int32'), x),
      'RangeError: scatterAdd: updates: expected float32[2, 2], the shape of indices and the dtype of x, received float32[2, 3]',
    ],
    [
      () => scatterAdd(x, leaf([2, 3], 'int32'), leaf([2, 3], 'int32')),
      'RangeError: scatterAdd: updates: expected float32[2, 3], the shape of indices and the dtype of x, received int32[2, 3]',
    ],
    [
      () => scatterAdd(floats(2), constant([0, 2], { dtype: 'int32' }), floats(2)),
      'RangeError: scatterAdd: indices: expected integers from 0 to 1, received 2 at index 1',
    ],
    [() => oneHot(integers, 0), 'RangeError: oneHot: depth: expected a positive integer, received 0'],
    [() => oneHot(x, 3), 'TypeError: oneHot: indices: expected an int32 Tensor, received float32[2, 3]'],
  ],
  movement: [
    [() => transpose(floats(3)), 'RangeError: transpose: x: expected at least two axes, received float32[3]'],
    [() => transpose(x, [0, 0]), 'RangeError: transpose: permutation: expected every axis of x ([2, 3]) once, received [0, 0]'],
    [() => transpose(x, wrong(1)), 'TypeError: transpose: permutation: expected a list of axes, received 1'],
    [() => concat([]), 'TypeError: concat: tensors: expected a list of Tensors, received []'],
    [() => concat([x, floats(2, 4)]), 'RangeError: concat: tensors[1]: expected float32[2, 3] but for axis 0, received float32[2, 4]'],
    [
      () => concat([x, leaf([2, 3], 'int32')]),
      'RangeError: concat: tensors[1]: expected float32[2, 3] but for axis 0, received int32[2, 3]',
    ],
    [() => concat([x, wrong(1)]), 'TypeError: concat: tensors[1]: expected a Tensor, received 1'],
    [() => concat([x, x], wrong({ dim: 1 })), "TypeError: concat: unknown option 'dim'; the options are axis"],
    [() => split(floats(5), 2), 'RangeError: split: sections: expected parts of axis 0, which has size 5, received 2'],
    [() => split(x, -1), 'RangeError: split: sections: expected parts of axis 0, which has size 2, received -1'],
    [() => split(x, [1, 2]), 'RangeError: split: sections: expected parts of axis 0, which has size 2, received [1, 2]'],
    [() => split(x, 2, wrong(1)), 'TypeError: split: options: expected an object, received 1'],
    [() => slice(x, wrong(0), wrong(1)), 'TypeError: slice: starts: expected 2 integers, one per axis of x, received 0'],
    [() => slice(x, [0, 0], [2, 4]), 'RangeError: slice: axis 1: expected 0 <= start <= end <= 3 with stride 1, received [0, 4]'],
    [() => slice(x, [1, 0], [0, 3]), 'RangeError: slice: axis 0: expected 0 <= start <= end <= 2 with stride 1, received [1, 0]'],
    [() => slice(x, [0, 0], [2, 3], [1, 0]), 'RangeError: slice: strides[1]: expected an integer other than 0, received 0'],
    [
      () => slice(x, [0, 0], [2, 3], [1, -1]),
      'RangeError: slice: axis 1: expected -1 <= end <= start < 3, counted from the front, with stride -1, received [0, 3]',
    ],
    [
      () => slice(x, [2, 0], [0, 1], [-1, 1]),
      'RangeError: slice: axis 0: expected -1 <= end <= start < 2, counted from the front, with stride -1, received [2, 0]',
    ],
    [() => pad(x, [[1, 1]]), 'TypeError: pad: padding: expected 2 pairs of integers >= 0, one per axis of x, received [[1, 1]]'],
    [
      () =>
        pad(
          x,
          [
            [1, 1],
            [0, 0],
          ],
          { value: Infinity },
        ),
      'RangeError: pad: value: expected a finite number of float32, received Infinity',
    ],
    [
      () => pad(integers, [[1, 1]], { mode: wrong('replicate') }),
      "RangeError: pad: mode: expected one of 'constant', 'reflect', 'edge', received 'replicate'",
    ],
    [() => pad(integers, [[1, 1]], { mode: 'edge', value: 1 }), "RangeError: pad: value: expected no value, as mode is 'edge', received 1"],
    [
      () => pad(integers, [[1, 2]], { mode: 'reflect' }),
      "RangeError: pad: padding[0]: expected at most 1 with mode 'reflect', as axis 0 has size 2, received [1, 2]",
    ],
    [
      () => pad(floats(0), [[0, 1]], { mode: 'edge' }),
      "RangeError: pad: padding[0]: expected at most 0 with mode 'edge', as axis 0 has size 0, received [0, 1]",
    ],
    [() => pad(integers, [[1, 1]], wrong(1)), 'TypeError: pad: options: expected an object, received 1'],
    [() => flip(x, { axis: 2 }), 'RangeError: flip: axis: expected an axis of a rank-2 Tensor, received 2'],
    [() => flip(x, wrong({ axes: 1 })), "TypeError: flip: unknown option 'axes'; the options are axis"],
    [() => pad(integers, [[1, 1]], { value: 0.5 }), 'RangeError: pad: value: expected an integer of 32 bits, as x is int32, received 0.5'],
  ],
  differentiation: [
    [
      () => grad((a: Tensor) => square(a))(x),
      'RangeError: grad: the loss: expected a float scalar (shape []; reduce it with mean() or sum()), received float32[2, 3]',
    ],
    [
      () => grad((a: Tensor) => sum(cast(a, 'int32')))(x),
      'RangeError: grad: the loss: expected a float scalar (shape []; reduce it with mean() or sum()), received int32[]',
    ],
    [() => grad(wrong(() => 3))(wrong(x)), 'TypeError: grad: the loss: expected a Tensor, received 3'],
    [() => grad(wrong(async () => sum(x)))(wrong(x)), 'TypeError: grad: the loss: expected a Tensor, received a Promise'],
    [
      () => grad((a: Tensor) => sum(a))(integers),
      'TypeError: grad: argument 0: expected a float Tensor (gradients exist only for those), received int32[2]',
    ],
    [
      () => grad((p: { layers: [Tensor, Tensor] }) => sum(p.layers[0]))({ layers: [x, integers] }),
      'TypeError: grad: layers.1: expected a float Tensor (gradients exist only for those), received int32[2]',
    ],
    [
      () => grad((p: { w: Tensor; rate: Tensor }) => sum(p.w))({ w: x, rate: wrong(0.1) }),
      'TypeError: grad: rate: expected a tree of Tensors as argument 0, received 0.1',
    ],
    [
      () => grad((p: { 'a.b': Tensor; a: { b: Tensor } }) => sum(p['a.b']))({ 'a.b': x, a: { b: x } }),
      "TypeError: grad: two leaves are called 'a.b'; paths are names, so they must differ",
    ],
    [() => grad(wrong(3)), 'TypeError: grad: fn: expected a function, received 3'],
    [() => grad((a: Tensor) => sum(a), wrong({ argnums: 1 })), "TypeError: grad: unknown option 'argnums'; the options are argnum"],
    [() => grad((a: Tensor) => sum(a), { argnum: -1 }), 'RangeError: grad: argnum: expected an integer >= 0, received -1'],
    [
      () =>
        valueAndGrad(
          wrong((a: Tensor) => sum(a)),
          { hasAux: true },
        )(wrong(x)),
      'TypeError: valueAndGrad: fn: expected the pair [loss, auxiliary] as its result, received float32[]',
    ],
    [
      () => valueAndGrad((a: Tensor) => [a, 1] as const, { hasAux: true })(x),
      'RangeError: valueAndGrad: the loss: expected a float scalar (shape []; reduce it with mean() or sum()), received float32[2, 3]',
    ],
    [
      () => valueAndGrad(wrong((a: Tensor) => [sum(a), 1]))(wrong(x)),
      'TypeError: valueAndGrad: the loss: expected a Tensor, received [float32[], 1]',
    ],
    [
      () => gradients(x, [x]),
      'RangeError: gradients: the loss: expected a float scalar (shape []; reduce it with mean() or sum()), received float32[2, 3]',
    ],
    [() => gradients(sum(x), wrong(x)), 'TypeError: gradients: wrt: expected a list of Tensors, received float32[2, 3]'],
    [
      () => gradients(sum(x), [x, integers]),
      'TypeError: gradients: wrt[1]: expected a float Tensor (gradients exist only for those), received int32[2]',
    ],
    [() => stopGradient(wrong(3)), 'TypeError: stopGradient: x: expected a Tensor, received 3'],
    [() => vjp(wrong(3), wrong(x)), 'TypeError: vjp: fn: expected a function, received 3'],
    [
      () => vjp((a: Tensor) => a, integers),
      'TypeError: vjp: argument 0: expected a float Tensor (gradients exist only for those), received int32[2]',
    ],
    [() => vjp((a: Tensor) => a, wrong(3)), 'TypeError: vjp: 0: expected a tree of Tensors as the arguments, received 3'],
    [() => vjp((_: Tensor) => 3, x), 'TypeError: vjp: value: expected a tree of Tensors as the result of fn, received 3'],
  ],
  'random numbers': [
    [() => createRng(-1), 'RangeError: keyFromSeed: seed: expected an integer from 0 to 2^53 - 1, received -1'],
    [() => createRng(wrong('seed')), "TypeError: createRng: key: expected two unsigned 32-bit integers, received 'seed'"],
    [() => createRng([1, -1]), 'TypeError: createRng: key: expected two unsigned 32-bit integers, received [1, -1]'],
    [
      () => createRng(1, wrong([1, 2, 3])),
      'TypeError: createRng: state: expected four unsigned 32-bit integers, not all of them 0, received [1, 2, 3]',
    ],
    [
      () => createRng(1, [0, 0, 0, 0]),
      'TypeError: createRng: state: expected four unsigned 32-bit integers, not all of them 0, received [0, 0, 0, 0]',
    ],
    [
      () => createRng(1, [1, 2, 3, -4]),
      'TypeError: createRng: state: expected four unsigned 32-bit integers, not all of them 0, received [1, 2, 3, -4]',
    ],
    [() => permutation(-1, createRng(1)), 'RangeError: permutation: n: expected an integer from 0 to 2^32 - 1, received -1'],
    [() => foldIn(wrong(7), 1), 'TypeError: foldIn: key: expected two unsigned 32-bit integers, received 7'],
  ],
};

for (const [group, calls] of Object.entries(errors)) {
  describe(`errors of ${group}`, () => {
    it.each(calls.map(([call, text]) => ({ call, text })))('$text', ({ call, text }) => {
      let thrown: unknown;
      try {
        call();
      } catch (error) {
        thrown = error;
      }
      expect(String(thrown)).toBe(text);
    });
  });
}

describe('show', () => {
  it.each<[unknown, string]>([
    ['text', "'text'"],
    [undefined, 'undefined'],
    [null, 'null'],
    [1.5, '1.5'],
    [-0, '0'],
    [3n, '3'],
    [() => 1, 'a function'],
    [[1, 'a', [true]], "[1, 'a', [true]]"],
    [[1, 2, 3, 4, 5, 6, 7, 8, 9], 'an array of 9'],
    [leaf([2, 3], 'int32'), 'int32[2, 3]'],
    [array([[1, 2]]), 'an array float32[1, 2]'],
    [{ data: [1], shape: [1] }, 'an array [1]'],
    [{ a: 1, b: 2 }, "an object with keys 'a', 'b'"],
    [{}, 'an object with keys (none)'],
    [new Float32Array(2), 'a Float32Array'],
    [Object.create(null), 'an object with keys (none)'],
  ])('describes %o', (value, text) => {
    expect(show(value)).toBe(text);
  });
});

describe('checks', () => {
  it('pass what is allowed', () => {
    expect(() => checkOptions('fn', { a: 1 }, ['a', 'b'])).not.toThrow();
    expect(() => checkNumber('fn', 'n', 3, 'a number')).not.toThrow();
    expect(() => checkOneOf('fn', 'mode', 'a', ['a', 'b'])).not.toThrow();
  });

  it.each<[() => void, Error]>([
    [() => checkOptions('fn', { c: 1 }, []), new TypeError("fn: unknown option 'c'; the options are (none)")],
    [() => checkNumber('fn', 'n', Number.NaN, 'a number'), new RangeError('fn: n: expected a number, received NaN')],
    [() => checkNumber('fn', 'n', 0, 'a positive number', (n) => n > 0), new RangeError('fn: n: expected a positive number, received 0')],
    [() => checkNumber('fn', 'n', '3', 'a number'), new TypeError("fn: n: expected a number, received '3'")],
    [() => checkOneOf('fn', 'mode', 'c', ['a', 'b']), new RangeError("fn: mode: expected one of 'a', 'b', received 'c'")],
  ])('refuse what is not (%#)', (check, error) => {
    expect(check).toThrow(error);
  });
});
