import { describe, expect, it } from 'vitest';
import {
  array,
  avgPool1d,
  compile,
  conv1d,
  conv2d,
  createRng,
  maxPool1d,
  maxPool2d,
  pad,
  type Tensor,
  toNumbers,
} from '../../../src/index.js';
import { normal } from '../../../src/layers/index.js';
import { expectClose } from '../../support/close.js';
import { testDevices } from '../../support/test-devices.js';

const devices = await testDevices();

// ONNX Runtime makes a Pad part of the pooling or convolution after it, which pads with something else, or overlooks it.
describe.each(devices)('what is padded keeps its padding (%s)', (_, backend) => {
  const rng = createRng(1);
  const run = async (fn: (x: Tensor, w: Tensor) => Tensor, x = array([[[-3, -2, -1]]]), w = array([[[2]]])) => {
    await using compiled = compile(backend, fn);
    return toNumbers(await compiled(x, w));
  };
  const around = [
    [0, 0],
    [0, 0],
    [1, 1],
  ] as const;
  const behind = [
    [0, 0],
    [0, 0],
    [0, 2],
  ] as const;

  it('before a pooling', async () => {
    expect(await run((x) => maxPool1d(pad(x, around), { kernelSize: 2, stride: 1 }))).toEqual([0, -2, -1, 0]);
    expect(
      await run((x) =>
        maxPool1d(
          pad(x, [
            [0, 0],
            [0, 0],
            [3, 3],
          ]),
          { kernelSize: 2 },
        ),
      ),
    ).toEqual([0, 0, -1, 0]);
    expect(await run((x) => avgPool1d(pad(x, around), { kernelSize: 2, stride: 1 }))).toEqual([-1.5, -2.5, -1.5, -0.5]);
  });

  it('before a convolution', async () => {
    expect(await run((x, w) => conv1d(pad(x, behind), w))).toEqual([-6, -4, -2, 0, 0]);
    expect(await run((x, w) => conv1d(pad(x, behind, { value: 5 }), w))).toEqual([-6, -4, -2, 10, 10]);
    const corner = [
      [0, 0],
      [0, 0],
      [0, 1],
      [0, 2],
    ] as const;
    const [x, w] = [normal(rng, [2, 3, 4, 5]), normal(rng, [4, 3, 1, 1])];
    const whole = await run((image, weight) => conv2d(pad(image, corner), weight), x, w);
    const alone = await run((image, weight) => pad(conv2d(image, weight), corner), x, w);
    expectClose('a 1x1 convolution', whole, alone, 1e-5);
    const pooled = await run((image) => maxPool2d(pad(image, corner), { kernelSize: [1, 1], stride: [5, 7] }), x, w);
    expectClose(
      'skipping',
      pooled,
      [0, 1, 2, 3, 4, 5].map((i) => x.data[20 * i] as number),
      1e-6,
    );
  });
});
