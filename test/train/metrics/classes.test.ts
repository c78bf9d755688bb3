import { describe, expect, it } from 'vitest';
import { array, constant, createRng, type NDArray, type Rng, type Shape, type Tensor, toNumbers } from '../../../src/index.js';
import { accuracy, f1Score, type Metric, meanIoU, perplexity, topKAccuracy } from '../../../src/train/index.js';
import { leaf } from '../../support/leaves.js';
import { meter } from '../../support/metrics.js';
import { sizeOf } from '../../support/numeric.js';
import { countSessions } from '../../support/sessions.js';
import { testDevices } from '../../support/test-devices.js';

/** One labelled element, with the scores of its classes. */
interface Element {
  readonly scores: readonly number[];
  readonly label: number;
  readonly weight: number;
}

type Reference = (elements: readonly Element[], classes: number) => number;

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const meanBy = (elements: readonly Element[], value: (element: Element) => number): number => {
  const weight = total(elements.map((element) => element.weight));
  return weight === 0 ? 0 : total(elements.map((element) => element.weight * value(element))) / weight;
};
const predictedOf = ({ scores }: Element): number => scores.indexOf(Math.max(...scores));

/** Position of the label in the classes by descending score, by sorting. */
const rankOf = ({ scores, label }: Element): number =>
  [...scores.keys()].sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b).indexOf(label);

/** Precision, recall and their harmonic mean, class by class, in the words of the definitions. */
function ofClass(elements: readonly Element[], c: number) {
  const weightOf = (holds: (element: Element) => boolean) => total(elements.filter(holds).map(({ weight }) => weight));
  const tp = weightOf((e) => predictedOf(e) === c && e.label === c);
  const fp = weightOf((e) => predictedOf(e) === c && e.label !== c);
  const fn = weightOf((e) => predictedOf(e) !== c && e.label === c);
  const precision = tp + fp > 0 ? tp / (tp + fp) : 0;
  const recall = tp + fn > 0 ? tp / (tp + fn) : 0;
  return {
    present: tp + fp + fn > 0,
    support: tp + fn,
    f1: precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0,
    iou: tp / (tp + fp + fn),
  };
}

const classesOf = (elements: readonly Element[], classes: number) =>
  Array.from({ length: classes }, (_, c) => ofClass(elements, c)).filter(({ present }) => present);
const mean = (values: readonly number[]): number => (values.length === 0 ? 0 : total(values) / values.length);

const right = (element: Element): number => Number(predictedOf(element) === element.label);
const references = {
  accuracy: (elements) => meanBy(elements, right),
  top2: (elements) => meanBy(elements, (e) => Number(rankOf(e) < 2)),
  perplexity: (elements) => {
    const nll = ({ scores, label }: Element) => Math.log(total(scores.map(Math.exp))) - (scores[label] as number);
    return total(elements.map(({ weight }) => weight)) === 0 ? 0 : Math.exp(meanBy(elements, nll));
  },
  macro: (elements, classes) => mean(classesOf(elements, classes).map(({ f1 }) => f1)),
  weighted: (elements, classes) => {
    const all = classesOf(elements, classes);
    const support = total(all.map((c) => c.support));
    return support === 0 ? 0 : total(all.map((c) => c.f1 * c.support)) / support;
  },
  micro: (elements) => meanBy(elements, right),
  binary: (elements) => ofClass(elements, 2).f1,
  meanIoU: (elements, classes) => mean(classesOf(elements, classes).map(({ iou }) => iou)),
} satisfies Record<string, Reference>;

type Options = { mask?: Tensor; ignoreIndex?: number; classAxis?: number };

const metrics: readonly (readonly [name: string, metric: (scores: Tensor, labels: Tensor, o: Options) => Metric, Reference])[] = [
  ['accuracy', accuracy, references.accuracy],
  ['topKAccuracy', (x, y, o) => topKAccuracy(x, y, { ...o, k: 2 }), references.top2],
  ['perplexity', perplexity, references.perplexity],
  ['f1Score, macro', f1Score, references.macro],
  ['f1Score, weighted', (x, y, o) => f1Score(x, y, { ...o, average: 'weighted' }), references.weighted],
  ['f1Score, micro', (x, y, o) => f1Score(x, y, { ...o, average: 'micro' }), references.micro],
  ['f1Score, binary', (x, y, o) => f1Score(x, y, { ...o, average: 'binary', positiveClass: 2 }), references.binary],
  ['meanIoU', (x, y, o) => meanIoU(x, y, { classAxis: -1, ...o }), references.meanIoU],
];

/** Scores, labels and perhaps a mask, and what is in them. */
interface Batch {
  readonly arrays: readonly NDArray[];
  readonly elements: readonly Element[];
}

const SHARE_OF_IGNORED = 0.3;

interface Setting {
  readonly name: string;
  /** Of the labels. */
  readonly shape: Shape;
  readonly classes: number;
  /** From the front. */
  readonly classAxis: number;
  readonly ignoreIndex?: number;
  readonly mask?: 'bool' | 'float32' | 'rows';
  /** Draws a score. */
  readonly score?: (rng: Rng) => number;
  /** Draws a label; default: any. */
  readonly label?: (rng: Rng) => number;
}

/** A batch; its scores are drawn element by element and laid out with the classes at their axis. */
function draw({ shape, classes, classAxis, ignoreIndex, mask, score, label }: Setting, rng: Rng): Batch {
  const inner = sizeOf(shape.slice(classAxis));
  const scores = new Float32Array(sizeOf(shape) * classes);
  const rows = Array.from({ length: shape[0] as number }, () => rng.int(2));
  const all = Array.from({ length: sizeOf(shape) }, (_, i) => {
    const own = Array.from({ length: classes }, () => Math.fround(score?.(rng) ?? rng.normal()));
    own.forEach((value, c) => {
      scores[(Math.floor(i / inner) * classes + c) * inner + (i % inner)] = value;
    });
    const ignored = ignoreIndex !== undefined && rng.float() < SHARE_OF_IGNORED;
    const row = Math.floor((i * rows.length) / sizeOf(shape));
    const weights = { bool: () => rng.int(2), float32: () => rng.int(3) / 2, rows: () => rows[row] as number };
    const weight = mask ? weights[mask]() : 1;
    return { scores: own, label: ignored ? ignoreIndex : (label?.(rng) ?? rng.int(classes)), weight };
  });
  const masks = {
    bool: () =>
      array(
        all.map(({ weight }) => weight),
        { shape, dtype: 'bool' },
      ),
    float32: () =>
      array(
        all.map(({ weight }) => weight),
        { shape },
      ),
    rows: () => array(rows, { dtype: 'bool' }),
  };
  const labels = array(
    all.map((element) => element.label),
    { shape, dtype: 'int32' },
  );
  return {
    arrays: [array(scores, { shape: shape.toSpliced(classAxis, 0, classes) }), labels, ...(mask ? [masks[mask]()] : [])],
    elements: all.filter((element) => element.label !== ignoreIndex),
  };
}

const settings: readonly Setting[] = [
  { name: 'rows', shape: [13], classes: 5, classAxis: 1 },
  { name: 'scores that tie', shape: [30], classes: 4, classAxis: 1, score: (rng) => rng.int(3) },
  { name: 'classes that are absent', shape: [9], classes: 8, classAxis: 1, label: (rng) => rng.int(3) },
  { name: 'ignored labels', shape: [12], classes: 4, classAxis: 1, ignoreIndex: -100 },
  { name: 'ignored labels that are a class', shape: [20], classes: 4, classAxis: 1, ignoreIndex: 3, mask: 'bool' },
  { name: 'sequences with weights', shape: [4, 6], classes: 3, classAxis: 2, mask: 'float32' },
  { name: 'images of padded batches', shape: [5, 3, 4], classes: 3, classAxis: 1, mask: 'rows', ignoreIndex: 255 },
];

const devices = await testDevices();
const cpu = devices[0]![1];
const SEEDS = [1, 2, 3];

describe.each(devices)('on %s', (_, backend) => {
  describe.each(settings)('$name', (setting) => {
    it.each(metrics)('%s is that of plain loops, in one batch and in two', async (_, metric, reference) => {
      const { ignoreIndex, classAxis, classes, shape } = setting;
      const options = { ...(ignoreIndex === undefined ? {} : { ignoreIndex }), classAxis };
      await using found = meter(backend, (x, y, mask) => metric(x as Tensor, y as Tensor, mask ? { ...options, mask } : options));
      const values: number[] = [];
      for (const seed of SEEDS) {
        const rng = createRng(seed);
        const first = draw(setting, rng);
        const second = draw({ ...setting, shape: shape.with(0, 3) }, rng);
        const one = reference(first.elements, classes);
        const both = reference([...first.elements, ...second.elements], classes);
        expect(await found.value(first.arrays)).toBeCloseTo(one, 5);
        expect(await found.value(first.arrays, second.arrays)).toBeCloseTo(both, 5);
        values.push(one, both);
      }
      // The draws tell something.
      expect(new Set(values).size).toBeGreaterThan(1);
      expect(Math.max(...values)).toBeGreaterThan(0);
    });
  });

  it.each(metrics)('%s is 0 where nothing counts, whatever the scores are', async (_, metric) => {
    const scores = array([
      [Number.NaN, 1, 2],
      [Infinity, 3, 4],
    ]);
    const labels = (values: number[]) => array(values, { dtype: 'int32' });
    await using ignored = meter(backend, (x, y) => metric(x as Tensor, y as Tensor, { classAxis: -1 }));
    expect(await ignored.value([scores, labels([-100, -100])])).toBe(0);
    await using masked = meter(backend, (x, y, mask) => metric(x as Tensor, y as Tensor, { mask: mask as Tensor }));
    expect(await masked.value([scores, labels([0, 1]), array([false, false])])).toBe(0);
    expect(await ignored.value([array([], { shape: [0, 3] }), labels([])])).toBe(0);
  });

  it('what does not count does not change the rest', async () => {
    await using found = meter(backend, (x, y, mask) => perplexity(x as Tensor, y as Tensor, { mask: mask as Tensor }));
    const scores = array([
      [Number.NaN, 1],
      [0, Math.log(3)],
    ]);
    expect(await found.value([scores, array([1, 1], { dtype: 'int32' }), array([0, 1])])).toBeCloseTo(4 / 3, 5);
  });

  it('one graph serves batches of all sizes', async () => {
    const axes = [['batch'], ['batch'], ['batch']];
    for (const [, metric, reference] of metrics) {
      await using found = meter(backend, (x, y, mask) => metric(x as Tensor, y as Tensor, { mask: mask as Tensor }), { axes });
      const sessions = countSessions(backend);
      for (const n of [4, 7, 3, 11]) {
        const { arrays, elements } = draw({ name: '', shape: [n], classes: 5, classAxis: 1, mask: 'bool' }, createRng(n));
        expect(await found.value(arrays)).toBeCloseTo(reference(elements, 5), 5);
      }
      expect(sessions.created).toBe(1);
    }
  });

  it('counts a hundred thousand elements exactly', async () => {
    const shape = [2, 250, 400];
    const setting: Setting = { name: '', shape, classes: 3, classAxis: 1, mask: 'bool', ignoreIndex: 255 };
    const { arrays, elements } = draw(setting, createRng(4));
    const counted = elements.filter(({ weight }) => weight > 0);
    const count = (holds: (element: Element) => boolean) => counted.filter(holds).length;
    const expected = [
      ...[0, 1, 2].map((c) => count((e) => e.label === c && predictedOf(e) === c)),
      ...[0, 1, 2].map((c) => count((e) => predictedOf(e) === c)),
      ...[0, 1, 2].map((c) => count((e) => e.label === c)),
    ];
    const options = (mask?: Tensor) => ({ ignoreIndex: 255, mask });
    await using ious = meter(backend, (x, y, mask) => meanIoU(x as Tensor, y as Tensor, options(mask)));
    expect(await ious.sums(arrays)).toEqual(expected);
    await using top = meter(backend, (x, y, mask) => topKAccuracy(x as Tensor, y as Tensor, { ...options(mask), classAxis: 1, k: 2 }));
    expect(await top.sums(arrays)).toEqual([count((e) => rankOf(e) < 2), counted.length]);
  });

  it('takes predicted classes', async () => {
    const { arrays, elements } = draw({ name: '', shape: [5, 6], classes: 4, classAxis: 2, ignoreIndex: -100 }, createRng(6));
    const labels = toNumbers(arrays[1] as NDArray);
    const scores = toNumbers(arrays[0] as NDArray);
    const predicted = labels.map((_, i) => predictedOf({ scores: scores.slice(4 * i, 4 * i + 4), label: 0, weight: 1 }));
    const batch = [array(predicted, { shape: [5, 6], dtype: 'int32' }), arrays[1] as NDArray];
    const rows: [(p: Tensor, y: Tensor) => Metric, Reference][] = [
      [accuracy, references.accuracy],
      [(p, y) => f1Score(p, y, { numClasses: 4 }), references.macro],
      [(p, y) => meanIoU(p, y, { numClasses: 4 }), references.meanIoU],
    ];
    for (const [metric, reference] of rows) {
      await using found = meter(backend, (p, y) => metric(p as Tensor, y as Tensor));
      expect(await found.value(batch)).toBeCloseTo(reference(elements, 4), 6);
    }
  });

  it('a label without a score that is a number is not in the top k', async () => {
    await using found = meter(backend, (x, y) => topKAccuracy(x as Tensor, y as Tensor, { k: 2 }));
    const scores = array([
      [Number.NaN, Number.NaN, Number.NaN],
      [1, 2, -Infinity],
      [-Infinity, -Infinity, 3],
    ]);
    expect(await found.sums([scores, array([0, 1, 0], { dtype: 'int32' })])).toEqual([2, 3]);
  });

  it('names a label that is out of range', async () => {
    for (const [name, metric] of metrics) {
      await using found = meter(backend, (x, y) => metric(x as Tensor, y as Tensor, {}));
      const bad = found.value([array([[1, 2, 3]]), array([3], { dtype: 'int32' })]);
      const fn = name.split(',')[0];
      await expect(bad).rejects.toThrow(new RangeError(`${fn}: labels: expected integers from 0 to 2 or -100, received 3 at index 0`));
    }
    await using found = meter(backend, (p, y) => f1Score(p as Tensor, y as Tensor, { numClasses: 2 }));
    const bad = found.value([array([2], { dtype: 'int32' }), array([1], { dtype: 'int32' })]);
    await expect(bad).rejects.toThrow('f1Score: predictions: expected integers from 0 to 1, received 2 at index 0');
  });
});

// Software devices have no float16 on WebGPU.
it('the metrics take float16 scores', async () => {
  const { arrays, elements } = draw({ name: '', shape: [40], classes: 6, classAxis: 1, score: (rng) => rng.int(4) }, createRng(5));
  const half = array(toNumbers(arrays[0] as NDArray), { shape: [40, 6], dtype: 'float16' });
  for (const [, metric, reference] of metrics) {
    await using found = meter(cpu, (x, y) => metric(x as Tensor, y as Tensor, {}));
    expect(await found.value([half, arrays[1] as NDArray])).toBeCloseTo(reference(elements, 6), 5);
  }
});

describe('values by hand', () => {
  const ofCounts = (metric: Metric, both: number[], predicted: number[], labelled: number[]) =>
    metric.compute([...both, ...predicted, ...labelled]);
  const given = [leaf([4, 3]), leaf([4], 'int32')] as const;

  it('of F1: a class in neither is left out, one in either is 0', () => {
    // tp 2 of 4 predictions and 2 labels; class 1 only predicted; class 2 in neither
    const counts = [
      [2, 0, 0],
      [4, 1, 0],
      [2, 3, 0],
    ] as const;
    const of = (average: 'macro' | 'micro' | 'weighted') =>
      ofCounts(f1Score(...given, { average }), ...(counts as unknown as [number[], number[], number[]]));
    expect(of('macro')).toBeCloseTo((2 / 3 + 0) / 2);
    expect(of('weighted')).toBeCloseTo(((2 / 3) * 2) / 5);
    expect(of('micro')).toBeCloseTo(2 / 5);
  });

  it('of binary F1: 0 where the positive class is in neither', () => {
    const metric = f1Score(...given, { average: 'binary' });
    expect(ofCounts(metric, [4, 0, 0], [4, 0, 0], [4, 0, 0])).toBe(0);
    expect(ofCounts(metric, [0, 3, 0], [0, 4, 0], [1, 3, 0])).toBeCloseTo(6 / 7);
  });

  it('of mean IoU: the union counts once', () => {
    expect(ofCounts(meanIoU(...given), [1, 2, 0], [2, 2, 0], [2, 2, 0])).toBeCloseTo((1 / 3 + 1) / 2);
  });
});

describe('wrong arguments', () => {
  const scores = leaf([3, 4]);
  const labels = leaf([3], 'int32');
  const image = leaf([2, 5, 8, 8]);
  const imageLabels = leaf([2, 8, 8], 'int32');

  it.each<[message: string, build: () => Metric]>([
    ["accuracy: unknown option 'k'; the options are mask, ignoreIndex, classAxis", () => accuracy(scores, labels, { k: 1 } as object)],
    ['accuracy: predictions: expected a Tensor (is a parameter missing?), received undefined', () => accuracy(undefined as never, labels)],
    ['accuracy: predictions: expected a float32 or float16 Tensor, received bool[3, 4]', () => accuracy(leaf([3, 4], 'bool'), labels)],
    ['accuracy: predictions: expected a Tensor with an axis of classes, received float32[]', () => accuracy(leaf([]), labels)],
    ['accuracy: predictions: expected at least one class along axis 1, received float32[3, 0]', () => accuracy(leaf([3, 0]), labels)],
    ['accuracy: classAxis: expected an axis of a rank-2 Tensor, received 2', () => accuracy(scores, labels, { classAxis: 2 })],
    [
      'accuracy: labels: expected int32[3] (predictions [3, 4] without the classes at axis 1), received int32[5]',
      () => accuracy(scores, leaf([5], 'int32')),
    ],
    [
      'accuracy: labels: expected int32[2, 5, 8] (predictions [2, 5, 8, 8] without the classes at axis 3), received int32[2, 8, 8]; pass classAxis: 1 if the classes are there',
      () => accuracy(image, imageLabels),
    ],
    [
      "accuracy: labels: expected int32 classes (array(labels, { dtype: 'int32' })), received float32[3]",
      () => accuracy(scores, leaf([3])),
    ],
    ['accuracy: labels: expected int32[3], like the predictions, received int32[4]', () => accuracy(labels, leaf([4], 'int32'))],
    ['accuracy: classAxis: predictions that are classes (int32) have no such axis', () => accuracy(labels, labels, { classAxis: 1 })],
    ['accuracy: ignoreIndex: expected an integer, received 0.5', () => accuracy(scores, labels, { ignoreIndex: 0.5 })],
    ['accuracy: mask: expected a bool or float Tensor, received int32[3]', () => accuracy(scores, labels, { mask: labels })],
    [
      'meanIoU: mask: expected [2, 8, 8] (the shape of the labels) or its first axes, received bool[8, 8]',
      () => meanIoU(image, imageLabels, { mask: leaf([8, 8], 'bool') }),
    ],
    [
      'perplexity: labels: expected integers from 0 to 3 or -100, received 7 at index 2',
      () => perplexity(scores, constant([0, 1, 7], { dtype: 'int32' })),
    ],
    ['perplexity: logits: expected a float32 or float16 Tensor, received int32[3]', () => perplexity(labels, labels)],
    ['topKAccuracy: k: expected an integer from 1 to 4, the number of classes, received 5', () => topKAccuracy(scores, labels, { k: 5 })],
    ['topKAccuracy: k: expected an integer from 1 to 4, the number of classes, received 0', () => topKAccuracy(scores, labels, { k: 0 })],
    ['topKAccuracy: options: expected an object, received undefined', () => topKAccuracy(scores, labels, undefined as never)],
    ['f1Score: numClasses: expected their number, as the predictions are classes (int32)', () => f1Score(labels, labels)],
    ['f1Score: numClasses: expected a positive integer, received 0', () => f1Score(labels, labels, { numClasses: 0 })],
    [
      'f1Score: numClasses: expected 4, the number of classes of the predictions, or nothing, received 5',
      () => f1Score(scores, labels, { numClasses: 5 }),
    ],
    [
      "f1Score: average: expected one of 'macro', 'micro', 'weighted', 'binary', received 'samples'",
      () => f1Score(scores, labels, { average: 'samples' as 'macro' }),
    ],
    [
      'f1Score: positiveClass: expected a class from 0 to 3, received 4',
      () => f1Score(scores, labels, { average: 'binary', positiveClass: 4 }),
    ],
    [
      "f1Score: positiveClass: goes with average: 'binary' only, which here is 'macro'",
      () => f1Score(scores, labels, { positiveClass: 0 }),
    ],
  ])('%s', (message, build) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
