import { describe, expect, it } from 'vitest';
import { array, type Backend, gradients, type NDArray, sum, type Tensor, toNumbers } from '../../src/index.js';
import { type MseLossOptions, mseLoss } from '../../src/losses/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';

const evaluate = async (backend: Backend, input: NDArray, target: NDArray, options?: MseLossOptions) => {
  const [loss, gradInput, gradTarget] = await run(
    backend,
    (x: Tensor, y: Tensor) => {
      const value = mseLoss(x, y, options);
      return [value, ...gradients(sum(value), [x, y])];
    },
    input,
    target,
  );
  return { loss: loss!, gradInput: gradInput!, gradTarget: gradTarget! };
};

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('mseLoss on %s', (_, backend) => {
  it.each(['mean', 'sum', 'none'] as const)('computes %s and both gradients', async (reduction) => {
    const [input, target] = [normalArray(1, [3, 2, 5]), normalArray(2, [3, 2, 5])];
    const difference = toNumbers(input).map((x, i) => x - toNumbers(target)[i]!);
    const squares = difference.map((d) => d * d);
    const total = squares.reduce((a, b) => a + b);
    const scale = reduction === 'mean' ? 2 / 30 : 2;
    const { loss, gradInput, gradTarget } = await evaluate(backend, input, target, { reduction });
    expect(loss.shape).toEqual(reduction === 'none' ? [3, 2, 5] : []);
    expectClose('loss', toNumbers(loss), reduction === 'none' ? squares : [reduction === 'sum' ? total : total / 30], 1e-6);
    expectClose(
      'input',
      toNumbers(gradInput),
      difference.map((d) => scale * d),
      1e-6,
    );
    expectClose(
      'target',
      toNumbers(gradTarget),
      difference.map((d) => -scale * d),
      1e-6,
    );
  });

  it('is the mean by default', async () => {
    const { loss } = await evaluate(backend, array([1, 2, 3]), array([1, 0, -1]));
    expect(toNumbers(loss)[0]).toBeCloseTo(20 / 3, 5);
  });

  it('is 0 without elements', async () => {
    const { loss, gradInput } = await evaluate(backend, array([], { shape: [0, 3] }), array([], { shape: [0, 3] }));
    expect(toNumbers(loss)).toEqual([0]);
    expect(gradInput.shape).toEqual([0, 3]);
  });

  it('is accurate for 10^6 elements', async () => {
    const { loss } = await evaluate(backend, array(new Float32Array(1e6).fill(0.1)), array(new Float32Array(1e6)));
    expect(toNumbers(loss)[0]).toBeCloseTo(0.01, 7);
  });
});

describe('mseLoss', () => {
  it('computes float16 in float32', async () => {
    // The square of 300 is infinite in float16, and so would be the gradient of the sum times 300.
    const input = array([300, 1, -300, 2.5], { dtype: 'float16' });
    const { loss, gradInput } = await evaluate(cpu, input, array([0, 1, 0, 0], { dtype: 'float16' }));
    expect([loss.dtype, gradInput.dtype]).toEqual(['float32', 'float16']);
    expect(toNumbers(loss)).toEqual([(2 * 300 ** 2 + 2.5 ** 2) / 4]);
    expect(toNumbers(gradInput)).toEqual([150, 0, -150, 1.25]);
  });

  it.each<[string, () => Tensor, string]>([
    ['other shapes', () => mseLoss(leaf([3, 1]), leaf([3])), 'input [3, 1] and target [3] differ in shape'],
    ['integers', () => mseLoss(leaf([3]), leaf([3], 'int32')), 'target: expected a float32 or float16 Tensor, received int32[3]'],
    [
      'no target',
      () => mseLoss(leaf([3]), undefined as unknown as Tensor),
      'target: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'an unknown option',
      () => mseLoss(leaf([3]), leaf([3]), { weight: 1 } as object),
      "unknown option 'weight'; the options are reduction",
    ],
    [
      'an unknown reduction',
      () => mseLoss(leaf([3]), leaf([3]), { reduction: 'batchmean' as 'mean' }),
      "reduction: expected one of 'mean', 'sum', 'none', received 'batchmean'",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `mseLoss: ${message}` }));
  });
});
