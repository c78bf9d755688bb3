import { describe, expect, it } from 'vitest';
import { array, conv1d, conv2d, conv3d, gradients, mul, type NDArray, type Shape, sum, type Tensor, toNumbers } from '../../src/index.js';
import {
  type StandardizedConvOptions,
  standardizedConv,
  type WeightStandardizationOptions,
  weightStandardization,
} from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals, sizeOf } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { around, check, checkDerivatives, flat, type Layer, moments, type Numbers } from './reference.js';

type Options = Omit<WeightStandardizationOptions, 'gain'>;

/** Standardized weight by definition; `out` is the output channel of an element. */
function standardized(w: Numbers, out: (index: number) => number, options: Options, gain?: Numbers): number[] {
  const { variance = 'biased', epsPlacement = 'variance' } = options;
  const clamped = epsPlacement === 'clampFanIn';
  const scaled = options.scaled ?? clamped;
  const eps = options.eps ?? (clamped ? 1e-4 : scaled ? 1e-6 : 1e-5);
  const stats = moments(w, out);
  return w.map((v, i) => {
    const c = out(i);
    const m = stats.count[c]!;
    const spread = (stats.variance[c]! * m) / (variance === 'biased' ? m : m - 1);
    const root = clamped
      ? Math.sqrt(Math.max(spread * m, eps))
      : epsPlacement === 'std'
        ? Math.sqrt(spread) + eps
        : Math.sqrt((spread + eps) * (scaled ? m : 1));
    return ((v - stats.mean[c]!) / root) * (gain?.[c] ?? 1);
  });
}

/** The index along an axis of every element. */
const along = (shape: Shape, axis: number) => {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  return (index: number) => Math.floor(index / inner) % shape[axis]!;
};

const layerOf = (shape: Shape, options: Options = {}, gain = false): Layer => {
  const axis = ((options.outAxis ?? 0) + shape.length) % shape.length;
  return {
    inputs: { w: normalArray(1, shape), ...(gain ? { gain: normalArray(2, [shape[axis]!]) } : {}) },
    layer: ({ w, ...factors }) => ({ wHat: weightStandardization(w!, { ...options, ...factors }) }),
    definition: ({ w, gain: factors }) => ({ wHat: standardized(w!, along(shape, axis), options, factors) }),
  };
};

const forms: Options[] = [
  {},
  { eps: 0.5 },
  { variance: 'unbiased' },
  { epsPlacement: 'std' },
  { epsPlacement: 'std', variance: 'unbiased', eps: 0.1 },
  { scaled: true },
  { scaled: true, eps: 0.1 },
  { epsPlacement: 'clampFanIn' },
  { epsPlacement: 'clampFanIn', scaled: true },
  // The clamp holds for all channels.
  { epsPlacement: 'clampFanIn', eps: 1e3 },
];
const shapes: Shape[] = [
  [3, 5],
  [2, 2, 3],
  [3, 2, 2, 2],
  [2, 1, 2, 2, 2],
];

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('weightStandardization on %s', (_, backend) => {
  it.each(forms)('standardizes by %j, with and without a gain', async (options) => {
    for (const gain of [false, true]) await check(backend, layerOf([3, 2, 2], options, gain));
  });

  it.each(shapes.map((shape) => ({ shape })))('standardizes $shape, along any axis', async ({ shape }) => {
    await check(backend, layerOf(shape, {}, true));
    await check(backend, layerOf(shape, { outAxis: 1 - shape.length, epsPlacement: 'std' }, shape.length === 3));
  });

  it.each([0, 0.1, 12345.678])('makes 0 of filters that are constant %d, with finite gradients', async (value) => {
    for (const [options, rstd] of [
      [{}, 1 / Math.sqrt(1e-5)],
      [{ epsPlacement: 'std', variance: 'unbiased' }, 1e5],
      [{ scaled: true }, 1 / Math.sqrt(9e-6)],
      [{ epsPlacement: 'clampFanIn' }, 100],
    ] as const) {
      const { wHat, dw } = await run(
        backend,
        (w: Tensor, g: Tensor) => {
          const y = weightStandardization(w, options);
          return { wHat: y, dw: gradients(sum(mul(y, g)), [w])[0] as Tensor };
        },
        flat(value, [2, 9]),
        normalArray(3, [2, 9]),
      );
      expectClose('wHat', toNumbers(wHat), Array(18).fill(0), 1e-6, rstd);
      const g = normals(3, 18);
      const mean = [g.slice(0, 9), g.slice(9)].map((row) => row.reduce((a, b) => a + b / 9, 0));
      expectClose(
        'gradient',
        toNumbers(dw),
        g.map((v, i) => rstd * (v - mean[Math.floor(i / 9)]!)),
        1e-5,
      );
    }
  });

  it.each([256, 2048])('keeps its digits where the mean is %d', async (offset) => {
    const { inputs: _inputs, ...rest } = layerOf([2, 30]);
    await check(backend, { ...rest, inputs: { w: around(offset, [2, 30]) } }, { values: 2e-5 });
  });

  it('does not see a shift or the scale of a filter, without eps', async () => {
    const w = normalArray(1, [3, 2, 4]);
    const moved = array(
      toNumbers(w).map((v, i) => (i < 8 ? v + 0.5 : 4 * v)),
      { shape: w.shape },
    );
    const [wHat, same] = await run(backend, (a: Tensor, b: Tensor) => [a, b].map((x) => weightStandardization(x, { eps: 0 })), w, moved);
    expectClose('wHat', toNumbers(same!), toNumbers(wHat!), 1e-5);
  });

  const convolutions: [rank: number, x: Shape, weight: Shape, options: StandardizedConvOptions][] = [
    [1, [2, 3, 7], [4, 3, 3], { padding: 'same' }],
    [1, [2, 4, 8], [4, 2, 3], { groups: 2, stride: 2, epsPlacement: 'std', variance: 'unbiased' }],
    [2, [2, 3, 5, 4], [2, 3, 2, 3], { eps: 0.1 }],
    [2, [1, 4, 5, 5], [4, 1, 3, 3], { groups: 4, padding: 1, scaled: true }],
    [3, [1, 2, 4, 3, 4], [3, 2, 2, 2, 2], { dilation: [1, 1, 2], epsPlacement: 'clampFanIn' }],
    [3, [1, 2, 3, 3, 3], [2, 1, 2, 2, 2], { groups: 2 }],
  ];
  it.each(convolutions)('convolves along %d axes, x %j with %j and %j', async (rank, xShape, shape, options) => {
    const { eps, scaled, variance, epsPlacement, ...window } = options;
    const conv = [conv1d, conv2d, conv3d][rank - 1] as typeof conv2d;
    const [out] = shape as [number];
    for (const names of [[], ['bias'], ['gain'], ['bias', 'gain']] as const) {
      const factors = names.some((name) => name === 'gain') ? normals(4, out) : undefined;
      const inputs: Record<string, NDArray> = {
        x: normalArray(1, xShape),
        weight: normalArray(2, shape),
        wHat: array(standardized(normals(2, sizeOf(shape)), along(shape, 0), options, factors), { shape }),
        bias: normalArray(3, [out]),
        gain: normalArray(4, [out]),
      };
      const { own, plain } = await run(
        backend,
        ({ x, weight, wHat, ...rest }: Record<string, Tensor>) => {
          const given = Object.fromEntries(names.map((name) => [name, rest[name] as Tensor]));
          return {
            own: standardizedConv(x!, { weight: weight!, ...given }, options),
            plain: conv(x!, wHat!, { ...window, ...(given.bias && { bias: given.bias }) } as never),
          };
        },
        inputs as never,
      );
      expect(own.shape).toEqual(plain.shape);
      expectClose('y', toNumbers(own), toNumbers(plain), 1e-5);
    }
  });
});

describe('weightStandardization', () => {
  it.each(forms)('has a gradient of its gradient by %j', (options) => {
    const { layer, inputs } = layerOf([2, 4], options, true);
    checkDerivatives(layer, inputs);
  });

  it('standardizes float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([2, 8], {}, true);
    const w = array(
      normals(1, 16).map((v) => 1000 + 300 * v),
      { shape: [2, 8], dtype: 'float16' },
    );
    await check(cpu, { ...rest, inputs: { ...inputs, w } }, { values: 1e-3, slopes: 2e-3 });
    expect(weightStandardization(leaf([2, 3], 'float16')).dtype).toBe('float16');
  });

  const w = leaf([4, 3, 2]);
  const single = (shape: string) =>
    `weight: expected more than one element per output channel, as a single one would always become 0, received float32[${shape}]`;
  it.each<[string, () => unknown, string]>([
    ['integers', () => weightStandardization(leaf([2, 3], 'int32')), 'weight: expected a float32 or float16 Tensor, received int32[2, 3]'],
    ['a vector', () => weightStandardization(leaf([4])), single('4')],
    ['a depthwise kernel of one element', () => weightStandardization(leaf([4, 1, 1, 1])), single('4, 1, 1, 1')],
    ['no elements', () => weightStandardization(leaf([4, 0])), single('4, 0')],
    [
      'the unbiased variance in the scaled form',
      () => weightStandardization(w, { scaled: true, variance: 'unbiased' }),
      "variance: expected 'biased' in the scaled form, received 'unbiased'",
    ],
    [
      'the unbiased variance with clampFanIn',
      () => weightStandardization(w, { epsPlacement: 'clampFanIn', variance: 'unbiased' }),
      "variance: expected 'biased' in the scaled form, received 'unbiased'",
    ],
    [
      'eps beside the deviation in the scaled form',
      () => weightStandardization(w, { scaled: true, epsPlacement: 'std' }),
      "epsPlacement: expected 'variance' or 'clampFanIn' in the scaled form, received 'std'",
    ],
    [
      'clampFanIn that is not scaled',
      () => weightStandardization(w, { scaled: false, epsPlacement: 'clampFanIn' }),
      "scaled: expected true with epsPlacement 'clampFanIn', which is scaled, received false",
    ],
    [
      'an unknown variance',
      () => weightStandardization(w, { variance: 'none' as never }),
      "variance: expected one of 'biased', 'unbiased', received 'none'",
    ],
    [
      'an unknown placement',
      () => weightStandardization(w, { epsPlacement: 'sqrt' as never }),
      "epsPlacement: expected one of 'variance', 'std', 'clampFanIn', received 'sqrt'",
    ],
    ['a scaled that is no boolean', () => weightStandardization(w, { scaled: 1 as never }), 'scaled: expected true or false, received 1'],
    ['a negative eps', () => weightStandardization(w, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'an axis that is not there',
      () => weightStandardization(w, { outAxis: 3 }),
      'outAxis: expected an axis of a rank-3 Tensor, received 3',
    ],
    [
      'a gain of another shape',
      () => weightStandardization(w, { gain: leaf([3]) }),
      'gain: expected shape [4], one number per output channel, received float32[3]',
    ],
    [
      'an unknown option',
      () => weightStandardization(w, { axis: 0 } as never),
      "unknown option 'axis'; the options are variance, epsPlacement, eps, scaled, outAxis, gain",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `weightStandardization: ${message}` }));
  });
});

describe('standardizedConv', () => {
  const [x, weight] = [leaf([2, 3, 5]), leaf([4, 3, 2])];
  it.each<[string, () => unknown, string]>([
    [
      'a matrix',
      () => standardizedConv(leaf([2, 3]), { weight }),
      'standardizedConv: x: expected a Tensor [N, C, ...] with one to three further axes, received float32[2, 3]',
    ],
    [
      'four axes',
      () => standardizedConv(leaf([2, 3, 1, 1, 1, 1]), { weight }),
      'standardizedConv: x: expected a Tensor [N, C, ...] with one to three further axes, received float32[2, 3, 1, 1, 1, 1]',
    ],
    [
      'no weight',
      () => standardizedConv(x, {} as never),
      'standardizedConv: weight: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'a weight of another rank',
      () => standardizedConv(x, { weight: leaf([4, 3, 2, 2]) }),
      'conv1d: expected x [N, C, L] and weight [O, C / groups, kernel length] of one dtype, received float32[2, 3, 5] and float32[4, 3, 2, 2] with groups 1',
    ],
    [
      'a kernel of one element',
      () => standardizedConv(x, { weight: leaf([3, 1, 1]) }, { groups: 3 }),
      'standardizedConv: weight: expected more than one element per output channel, as a single one would always become 0, received float32[3, 1, 1]',
    ],
    [
      'a gain of another shape',
      () => standardizedConv(x, { weight, gain: leaf([3]) }),
      'standardizedConv: gain: expected shape [4], one number per output channel, received float32[3]',
    ],
    [
      'an unknown parameter',
      () => standardizedConv(x, { weight, scale: weight } as never),
      "standardizedConv: params: unknown parameter 'scale'; expected { weight, bias, gain }",
    ],
    [
      'an unknown option',
      () => standardizedConv(x, { weight }, { outAxis: 1 } as never),
      "standardizedConv: unknown option 'outAxis'; the options are stride, padding, dilation, groups, variance, epsPlacement, eps, scaled",
    ],
    [
      'options that are not there',
      () => standardizedConv(x, { weight }, null as never),
      'standardizedConv: options: expected an object, received null',
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
