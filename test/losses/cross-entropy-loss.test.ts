import { describe, expect, it } from 'vitest';
import { array, type Backend, constant, gradients, type NDArray, type Shape, sum, type Tensor, toNumbers } from '../../src/index.js';
import { type CrossEntropyLossOptions, crossEntropyLoss } from '../../src/losses/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals, numericGradient, sizeOf } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';

type Options = Omit<CrossEntropyLossOptions, 'classWeights'> & { classWeights?: readonly number[] };

/** The definition of the loss in float64; probabilities are targets as long as the logits. */
function reference(x: readonly number[], shape: Shape, target: readonly number[], soft: boolean, options: Options): number[] {
  const [n, classes, ...spatial] = shape as [number, number, ...number[]];
  const size = sizeOf(spatial);
  const { classWeights: w = Array(classes).fill(1), ignoreIndex = -100, labelSmoothing: e = 0, reduction = 'mean' } = options;
  const values: number[] = [];
  let divisor = 0;
  for (let i = 0; i < n; i++) {
    for (let s = 0; s < size; s++) {
      const at = (list: readonly number[], c: number) => list[(i * classes + c) * size + s] as number;
      const all = Array.from({ length: classes }, (_, c) => c);
      const top = Math.max(...all.map((c) => at(x, c)));
      const logTotal = top + Math.log(all.reduce((total, c) => total + Math.exp(at(x, c) - top), 0));
      const label = target[i * size + s] as number;
      const ignored = !soft && label === ignoreIndex;
      const share = (c: number) => (1 - e) * (soft ? at(target, c) : Number(c === label)) + e / classes;
      values.push(ignored ? 0 : all.reduce((total, c) => total + (w[c] as number) * share(c) * (logTotal - at(x, c)), 0));
      divisor += soft ? 1 : ignored ? 0 : (w[label] as number);
    }
  }
  if (reduction === 'none') return values;
  const total = values.reduce((a, b) => a + b, 0);
  return [reduction === 'sum' ? total : divisor === 0 ? 0 : total / divisor];
}

/** Loss and gradient of the sum of it. */
const evaluate = (backend: Backend, logits: NDArray, target: NDArray, options: CrossEntropyLossOptions) =>
  run(
    backend,
    (x: Tensor, y: Tensor) => {
      const loss = crossEntropyLoss(x, y, options);
      return { loss, gradient: gradients(sum(loss), [x])[0] as Tensor };
    },
    logits,
    target,
  );

const labels = (values: readonly number[], shape: Shape = [values.length]) => array([...values], { shape, dtype: 'int32' });

/** Rows of positive numbers that add up to 1 over the class axis. */
function probabilities(shape: Shape): NDArray {
  const [, classes, ...spatial] = shape as [number, number, ...number[]];
  const size = sizeOf(spatial);
  const raw = normals(5, sizeOf(shape)).map(Math.exp);
  const total = (i: number, s: number) =>
    Array.from({ length: classes }, (_, c) => raw[(i * classes + c) * size + s] as number).reduce((a, b) => a + b);
  const data = raw.map((value, k) => value / total(Math.floor(k / (classes * size)), k % size));
  return array(data, { shape });
}

const classWeights = [1, 0.5, 2, 0];
const image: Shape = [2, 4, 3, 2];
const imageLabels = labels([0, 1, 2, -100, 1, 0, 2, 2, -100, 3, 1, 0], [2, 3, 2]);
const rows: Shape = [5, 4];
const rowLabels = labels([3, 0, 1, 1, 2]);

const cases: [name: string, shape: Shape, target: NDArray, options: Options][] = [
  ['the mean', rows, rowLabels, {}],
  ['the sum', rows, rowLabels, { reduction: 'sum' }],
  ['every element', rows, rowLabels, { reduction: 'none' }],
  ['one class', [3, 1], labels([0, 0, 0]), {}],
  ['class weights', rows, rowLabels, { classWeights }],
  ['class weights, sum', rows, rowLabels, { classWeights, reduction: 'sum' }],
  ['an ignored label', rows, labels([3, -100, 1, -100, 2]), {}],
  ['another ignored label, which is a class', rows, labels([3, 1, 1, 0, 2]), { ignoreIndex: 1 }],
  ['label smoothing', rows, rowLabels, { labelSmoothing: 0.1 }],
  ['nothing but smoothing', rows, rowLabels, { labelSmoothing: 1 }],
  ['smoothing, weights and an ignored label', rows, labels([3, -100, 1, 0, 2]), { labelSmoothing: 0.2, classWeights }],
  ['images', image, imageLabels, {}],
  ['images with everything', image, imageLabels, { labelSmoothing: 0.3, classWeights, reduction: 'none' }],
  ['sequences', [2, 4, 6], labels([0, 1, 2, -100, 1, 0, 2, 2, -100, 3, 1, 0], [2, 6]), { classWeights }],
  ['probabilities', rows, probabilities(rows), {}],
  ['probabilities of images', image, probabilities(image), { reduction: 'none' }],
  ['probabilities with weights and smoothing', image, probabilities(image), { classWeights, labelSmoothing: 0.2 }],
  ['probabilities, sum', rows, probabilities(rows), { reduction: 'sum', labelSmoothing: 1 }],
  ['probabilities, of which none is ignored', rows, probabilities(rows), { ignoreIndex: 0 }],
];

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('crossEntropyLoss on %s', (_, backend) => {
  it.each(cases)('computes %s', async (_, shape, target, options) => {
    const logits = normalArray(1, shape);
    const [x, y] = [toNumbers(logits), toNumbers(target)];
    const soft = target.dtype === 'float32';
    const { loss, gradient } = await evaluate(backend, logits, target, options);
    const [n, , ...spatial] = shape;
    expect(loss.shape).toEqual(options.reduction === 'none' ? [n, ...spatial] : []);
    expectClose('loss', toNumbers(loss), reference(x, shape, y, soft, options), 1e-5);
    const total = (values: readonly number[]) => reference(values, shape, y, soft, options).reduce((a, b) => a + b, 0);
    expectClose('gradient', toNumbers(gradient), numericGradient(total, x), 1e-5);
  });

  it.each([
    ['every label is ignored', labels([-100, -100, -100]), {}],
    ['every label is ignored, with smoothing', labels([-100, -100, -100]), { labelSmoothing: 0.5 }],
    ['every label is ignored, sum', labels([-100, -100, -100]), { reduction: 'sum' as const }],
    ['the weights add up to 0', labels([1, 1, -100]), { classWeights: [1, 0] }],
    ['the weights add up to 0, with smoothing', labels([1, 1, 1]), { classWeights: [1, 0], labelSmoothing: 0.5 }],
  ])('is 0 with gradient 0 where %s', async (_, target, options) => {
    const { loss, gradient } = await evaluate(backend, normalArray(2, [3, 2]), target, options);
    expect(toNumbers(loss)).toEqual([0]);
    expect(toNumbers(gradient)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('is exact for huge logits', async () => {
    const { loss, gradient } = await evaluate(
      backend,
      array([
        [1e4, 0, -1e4],
        [0, 0, 1e4],
        [1e4, 1e4, 1e4],
      ]),
      labels([0, 1, 2]),
      { reduction: 'none' },
    );
    expectClose('loss', toNumbers(loss), [0, 1e4, Math.log(3)], 1e-4);
    expectClose('gradient', toNumbers(gradient), [0, 0, 0, 0, -1, 1, 1 / 3, 1 / 3, -2 / 3], 1e-3);
  });

  it('reaches the accuracy of float32 where the loss is small', async () => {
    const { loss } = await evaluate(backend, array([[0, -12]]), labels([0]), {});
    expect(toNumbers(loss)[0]).toBeCloseTo(Math.log1p(Math.exp(-12)), 6);
  });

  it('gives no gradient to probabilities and class weights', async () => {
    const given = await run(
      backend,
      (x: Tensor, target: Tensor, weights: Tensor) => gradients(crossEntropyLoss(x, target, { classWeights: weights }), [target, weights]),
      normalArray(4, [2, 3]),
      probabilities([2, 3]),
      array([1, 2, 3]),
    );
    expect(given.map(toNumbers)).toEqual([
      [0, 0, 0, 0, 0, 0],
      [0, 0, 0],
    ]);
  });

  it('takes class weights as a Tensor', async () => {
    const logits = normalArray(4, rows);
    const loss = await run(
      backend,
      (x: Tensor, y: Tensor, w: Tensor) => crossEntropyLoss(x, y, { classWeights: w }),
      logits,
      rowLabels,
      array(classWeights),
    );
    expectClose('loss', toNumbers(loss), reference(toNumbers(logits), rows, toNumbers(rowLabels), false, { classWeights }), 1e-5);
  });

  it('names a label that is out of range', async () => {
    await expect(evaluate(backend, normalArray(1, [3, 4]), labels([0, 4, 1]), {})).rejects.toThrow(
      new RangeError('crossEntropyLoss: target: expected integers from 0 to 3 or -100, received 4 at index 1'),
    );
    await expect(evaluate(backend, normalArray(1, [3, 4]), labels([0, -100, -1]), { ignoreIndex: 9 })).rejects.toThrow(
      new RangeError('crossEntropyLoss: target: expected integers from 0 to 3 or 9, received -100 at index 1'),
    );
  });
});

describe('crossEntropyLoss', () => {
  it('computes float16 logits in float32', async () => {
    const shape = [40, 300];
    const logits = array(normals(3, sizeOf(shape)), { shape, dtype: 'float16' });
    const y = Array.from({ length: 40 }, (_, i) => i);
    const { loss, gradient } = await evaluate(cpu, logits, labels(y), { reduction: 'sum' });
    expect([loss.dtype, gradient.dtype]).toEqual(['float32', 'float16']);
    expectClose('loss', toNumbers(loss), reference(toNumbers(logits), shape, y, false, { reduction: 'sum' }), 1e-5);
  });

  const logits = leaf([3, 4]);
  const target = leaf([3], 'int32');

  it.each<[string, () => Tensor, string]>([
    [
      'smoothing above 1',
      () => crossEntropyLoss(logits, target, { labelSmoothing: 1.5 }),
      'labelSmoothing: expected a number from 0 to 1, received 1.5',
    ],
    [
      'smoothing below 0',
      () => crossEntropyLoss(logits, target, { labelSmoothing: -0.1 }),
      'labelSmoothing: expected a number from 0 to 1, received -0.1',
    ],
    [
      'a fractional ignoreIndex',
      () => crossEntropyLoss(logits, target, { ignoreIndex: 0.5 }),
      'ignoreIndex: expected an integer, received 0.5',
    ],
    [
      'an unknown reduction',
      () => crossEntropyLoss(logits, target, { reduction: 'average' as 'mean' }),
      "reduction: expected one of 'mean', 'sum', 'none', received 'average'",
    ],
    [
      'an unknown option',
      () => crossEntropyLoss(logits, target, { weight: [1] } as object),
      "unknown option 'weight'; the options are classWeights, ignoreIndex, labelSmoothing, reduction",
    ],
    [
      'too few weights',
      () => crossEntropyLoss(logits, target, { classWeights: [1, 2] }),
      'classWeights: expected 4 weights, one per class, received [2]',
    ],
    [
      'a weight below 0',
      () => crossEntropyLoss(logits, target, { classWeights: [1, 2, -3, 4] }),
      'classWeights[2]: expected a number >= 0, received -3',
    ],
    [
      'weights that are no list',
      () => crossEntropyLoss(logits, target, { classWeights: 2 as unknown as number[] }),
      'classWeights: expected a list of numbers or a Tensor, received 2',
    ],
    ['logits without classes', () => crossEntropyLoss(leaf([3]), target), 'logits: expected a Tensor [N, C, ...], received float32[3]'],
    ['integer logits', () => crossEntropyLoss(target, target), 'logits: expected a float32 or float16 Tensor, received int32[3]'],
    [
      'a missing target',
      () => crossEntropyLoss(logits, undefined as unknown as Tensor),
      'target: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'labels that are not integers',
      () => crossEntropyLoss(logits, leaf([3])),
      "target: labels must be int32 (array(labels, { dtype: 'int32' })), received float32[3]",
    ],
    [
      'constant labels out of range',
      () => crossEntropyLoss(logits, constant([0, 1, 7], { dtype: 'int32' })),
      'target: expected integers from 0 to 3 or -100, received 7 at index 2',
    ],
    [
      'labels of another shape',
      () => crossEntropyLoss(logits, leaf([4], 'int32')),
      'target: expected int32[3] or probabilities, received int32[4]',
    ],
    [
      'probabilities of another shape',
      () => crossEntropyLoss(logits, leaf([3, 5])),
      'target: expected probabilities of shape [3, 4], received float32[3, 5]',
    ],
    ['bool labels', () => crossEntropyLoss(logits, leaf([3], 'bool')), 'target: expected an int32 Tensor, received bool[3]'],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `crossEntropyLoss: ${message}` }));
  });
});
