import { describe, expect, it } from 'vitest';
import { type Shape, type Tensor, toNumbers } from '../../src/index.js';
import { instanceNorm, patchBatchNorm } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import {
  affinePairs,
  around,
  channelOf,
  check,
  checkDerivatives,
  checkGroups,
  drawInputs,
  flat,
  type GroupLayer,
  type Layer,
  moments,
  normalized,
  partOf,
  pick,
  transformed,
} from './reference.js';

const imageOf = (shape: Shape, patchesPerImage: number) => partOf(shape, (patch) => Math.floor(patch / patchesPerImage));

const layerOf = (shape: Shape, names: readonly string[], patchesPerImage: number, eps = 1e-5): Layer => ({
  inputs: drawInputs(shape, names),
  layer: (given) => ({ y: patchBatchNorm(given.x as Tensor, pick(given, 'weight', 'bias'), { patchesPerImage, eps }) }),
  definition: ({ x, ...params }) => {
    const image = imageOf(shape, patchesPerImage);
    return { y: transformed(normalized(x!, image, moments(x!, image), eps), channelOf(shape), params) };
  },
});

const shapes: [Shape, patchesPerImage: number][] = [
  [[8, 2], 4],
  [[4, 2, 3], 2],
  [[3, 2, 2, 3], 3],
  [[2, 2, 2, 1, 3], 1],
];
const cases = shapes.flatMap(([shape, patchesPerImage]) => affinePairs.map((names) => ({ shape, patchesPerImage, names })));

describe.each(await testDevices())('patchBatchNorm on %s', (_, backend) => {
  it.each(cases)('normalises $shape by $patchesPerImage patches with parameters $names', async ({ shape, patchesPerImage, names }) => {
    await check(backend, layerOf(shape, names, patchesPerImage, names.length === 1 ? 0.1 : 1e-5));
  });

  const shape = [6, 2, 40];
  const patches: GroupLayer = {
    layer: (x, p) => patchBatchNorm(x, p, { patchesPerImage: 3 }),
    group: imageOf(shape, 3),
    channel: channelOf(shape),
    params: [2],
  };

  it.each([256, 2048])('keeps its digits where the mean is %d', async (offset) => {
    await checkGroups(backend, around(offset, shape), patches);
  });

  it.each([0, 0.1, 12345.678])('gives the bias for images that are constant %d', async (value) => {
    await checkGroups(backend, flat(value, shape), patches);
  });

  it('is instance normalization with one patch per image', async () => {
    const { patch, instance } = await run(
      backend,
      (x: Tensor) => ({ patch: patchBatchNorm(x, {}, { patchesPerImage: 1 }), instance: instanceNorm(x) }),
      normalArray(1, [3, 2, 5]),
    );
    expectClose('y', toNumbers(patch), toNumbers(instance), 1e-6);
  });
});

describe('patchBatchNorm', () => {
  it('has a gradient of its gradient', () => {
    const { layer, inputs } = layerOf([4, 2, 2], ['weight', 'bias'], 2);
    checkDerivatives(layer, inputs);
  });

  const x = leaf([6, 3, 2]);
  it.each<[string, () => unknown, string]>([
    [
      'patches that do not fit',
      () => patchBatchNorm(x, {}, { patchesPerImage: 4 }),
      'patchesPerImage: expected a divisor of the 6 patches of x, received 4',
    ],
    ['no number of patches', () => patchBatchNorm(x, {}, {} as never), 'patchesPerImage: expected a positive integer, received undefined'],
    [
      'images of one value',
      () => patchBatchNorm(leaf([6, 3]), {}, { patchesPerImage: 1 }),
      'x: expected more than one value per channel in every image, received float32[6, 3] in groups of 1',
    ],
    ['a negative eps', () => patchBatchNorm(x, {}, { patchesPerImage: 2, eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'a weight of another shape',
      () => patchBatchNorm(x, { weight: leaf([2]) }, { patchesPerImage: 2 }),
      'weight: expected shape [3], one number per channel, received float32[2]',
    ],
    [
      'an unknown option',
      () => patchBatchNorm(x, {}, { patches: 2 } as never),
      "unknown option 'patches'; the options are patchesPerImage, eps",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `patchBatchNorm: ${message}` }));
  });
});
