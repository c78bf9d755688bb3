import { describe, expect, it } from 'vitest';
import {
  type Backend,
  cast,
  createRng,
  greater,
  logicalAnd,
  mul,
  ones,
  square,
  stack,
  sum,
  type Tensor,
  toNumbers,
} from '../../src/index.js';
import { normal } from '../../src/layers/index.js';
import { createBackend } from '../../src/node.js';
import type { Metric } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { webgpuBackend } from '../support/devices.js';
import { interceptRuns, trackGpuTensors } from '../support/sessions.js';
import { testDevices } from '../support/test-devices.js';
import {
  type Batch,
  everything,
  initial,
  loss,
  type Params,
  plainGradient,
  predict,
  regression,
  rows,
  squaredErrors,
  weightsOf,
} from './fixtures.js';

const devices = await testDevices();
const start = weightsOf(initial());
const count = (condition: Tensor): Tensor => sum(cast(condition, 'float32'));

/** Of the rows with a positive prediction, the share whose target is positive: no mean over the batch. */
function precision(p: Params, b: Batch): Metric {
  const positive = greater(predict(p, b.x), 0);
  return {
    sums: stack([count(logicalAnd(positive, greater(b.y, 0))), count(positive)]),
    compute: ([hits, all]) => hits! / all!,
  };
}
/** The same in plain JavaScript, at the initial weights. */
function plainPrecision(from: number, to: number): number {
  const { x, y } = rows(from, to);
  const predicted = Array.from({ length: to - from }, (_, i) =>
    [...x.data.slice(3 * i, 3 * i + 3), 1].reduce((total, v, k) => total + v * start[k]!, 0),
  );
  const positive = toNumbers(y).filter((_, i) => predicted[i]! > 0);
  return positive.filter((target) => target > 0).length / positive.length;
}

const measured = (p: Params, b: Batch) => ({
  loss: loss(p, b),
  metrics: { precision: precision(p, b), size: mul(sum(square(b.y)), 1 / b.y.shape[0]!) },
  perSample: squaredErrors(p, b),
});
const measuring = (backend: Backend) => regression(backend, { loss: measured });

async function* later<T>(items: readonly T[]): AsyncGenerator<T> {
  for (const item of items) {
    await null;
    yield item;
  }
}

describe.each(devices)('metrics (%s)', (_, backend) => {
  it('are scalars, or sums with what they amount to', async () => {
    await using trainer = await measuring(backend);
    for (const report of [await trainer.evaluate(rows(0, 16)), await trainer.step(rows(0, 16))]) {
      expect(report.loss).toBeCloseTo(plainGradient(start).loss, 5);
      expect(report.metrics.precision).toBeCloseTo(plainPrecision(0, 16), 6);
      const size = toNumbers(rows(0, 16).y).reduce((total, y) => total + y * y, 0) / 16;
      expect(report.metrics.size).toBeCloseTo(size, 5);
    }
    // A mean over batches would be another number.
    expect(plainPrecision(0, 16)).not.toBeCloseTo((plainPrecision(0, 5) + plainPrecision(5, 16)) / 2, 2);
  });

  it.each([
    ['a list', (parts: ReturnType<typeof rows>[]) => parts],
    ['an iterator', (parts: ReturnType<typeof rows>[]) => parts.values()],
    ['an async generator', later],
  ])('of many batches are those of all of them together: %s', async (_what, iterable) => {
    await using trainer = await measuring(backend);
    const expected = await trainer.evaluate(rows(0, 16));
    const before = await everything(trainer);
    for (const cuts of [
      [0, 16],
      [0, 5, 16],
      [0, 5, 6, 9, 16],
    ]) {
      const parts = cuts.slice(1).map((to, i) => rows(cuts[i]!, to));
      const { loss: found, metrics, perSample } = await trainer.evaluateAll(iterable(parts));
      expect(found).toBeCloseTo(expected.loss, 5);
      expectClose('metrics', Object.values(metrics), Object.values(expected.metrics), 1e-5);
      expect(perSample).toBe(undefined);
    }
    expect(await everything(trainer)).toBe(before);
  });

  it('may be called by numbers, but not by nothing', async () => {
    const withNames = (metrics: Record<string, Tensor>) => regression(backend, { loss: (p, b) => ({ loss: loss(p, b), metrics }) });
    await using nameless = await withNames({ '': ones([]) });
    await expect(nameless.evaluate(rows(0, 4))).rejects.toThrow('trainer.evaluate: metrics: a metric needs a name');
    await using numbers = await withNames({ top5: ones([]), 7: mul(ones([]), 2), 0: ones([]) });
    for (const report of [await numbers.evaluate(rows(0, 4)), await numbers.evaluateAll([rows(0, 4)]), await numbers.step(rows(0, 4))]) {
      expect(report).toEqual({ loss: expect.closeTo(plainGradient(start, 0, 4).loss, 5), metrics: { 0: 1, 7: 2, top5: 1 } });
    }
  });

  it('are refused with another shape of sums', async () => {
    const compute = () => 0;
    for (const sums of [ones([]), ones([2, 2]), cast(ones([2]), 'int32'), 3 as never]) {
      await using trainer = await regression(backend, { loss: (p, b) => ({ loss: loss(p, b), metrics: { bad: { sums, compute } } }) });
      await expect(trainer.step(rows(0, 4))).rejects.toThrow("trainer.step: the sums of metric 'bad': expected a");
    }
  });

  it('may fail: then nothing has changed', async () => {
    let fails = true;
    const compute = ([v]: readonly number[]) => {
      if (fails) throw new Error('no such number');
      return v!;
    };
    await using trainer = await regression(backend, {
      loss: (p, b) => ({ loss: loss(p, b), metrics: { bad: { sums: stack([sum(p.b)]), compute } } }),
    });
    const before = await everything(trainer);
    await expect(trainer.step(rows(0, 4))).rejects.toThrow('no such number');
    await expect(trainer.evaluate(rows(0, 4))).rejects.toThrow('no such number');
    await expect(trainer.evaluateAll([rows(0, 4)])).rejects.toThrow('no such number');
    expect(await everything(trainer)).toBe(before);
    fails = false;
    expect((await trainer.step(rows(0, 4))).metrics).toEqual({ bad: 0.5 });
  });
});

describe.each(devices)('evaluateAll (%s)', (_, backend) => {
  it('weighs batches by their weight', async () => {
    const weighted = (p: Params, b: Batch) => ({ loss: loss(p, b), metrics: { bias: sum(p.b) }, weight: sum(square(b.y)) });
    await using trainer = await regression(backend, { loss: weighted });
    const weight = (from: number, to: number) => toNumbers(rows(from, to).y).reduce((total, y) => total + y * y, 0);
    const [a, b] = [plainGradient(start, 0, 4).loss, plainGradient(start, 4, 16).loss];
    const expected = (a * weight(0, 4) + b * weight(4, 16)) / weight(0, 16);
    const found = await trainer.evaluateAll([rows(0, 4), rows(4, 16)]);
    expect(found.loss).toBeCloseTo(expected, 5);
    expect(found.metrics.bias).toBeCloseTo(0.5, 6);
  });

  it('needs batches', async () => {
    await using trainer = await measuring(backend);
    const message = 'trainer.evaluateAll: batches: expected at least one batch, received none';
    await expect(trainer.evaluateAll([])).rejects.toThrow(message);
    await expect(trainer.evaluateAll(later([]))).rejects.toThrow(message);
    for (const batches of [rows(0, 4), undefined, 3]) {
      await expect(trainer.evaluateAll(batches as never)).rejects.toThrow('trainer.evaluateAll: batches: expected an iterable of batches');
    }
  });

  it('needs batches with the same metrics', async () => {
    const changing = (p: Params, b: Batch) => ({
      loss: loss(p, b),
      metrics: b.x.shape[0] === 4 ? { four: sum(b.y) } : { other: sum(b.y) },
    });
    await using trainer = await regression(backend, { loss: changing as never, axes: null });
    await expect(trainer.evaluateAll([rows(0, 4), rows(4, 9)])).rejects.toThrow('trainer.evaluate: the metrics of the batches differ');
    expect((await trainer.evaluateAll([rows(0, 4), rows(4, 8)])).metrics).toEqual({ four: expect.any(Number) });
  });
});

describe.each(devices)('evaluateAll: memory (%s)', (device) => {
  /** A backend of one's own, whose tensors are counted. */
  const open = async () => (device === 'webgpu' ? ((await webgpuBackend()) as Backend) : createBackend({ device: 'cpu' }));

  it('frees what it had when something fails', async () => {
    const backend = await open();
    const live = trackGpuTensors(backend);
    let fails = false;
    interceptRuns(backend, () => {
      if (fails) throw new Error('device lost');
    });
    const trainer = await measuring(backend);
    await trainer.step(rows(0, 8));
    const held = live.size;
    let finished = 0;
    async function* batches(last: () => unknown): AsyncGenerator<ReturnType<typeof rows>> {
      try {
        yield rows(0, 8);
        yield rows(8, 16);
        yield (await last()) as ReturnType<typeof rows>;
      } finally {
        finished++;
      }
    }
    const refused: [() => unknown, string][] = [
      [() => Promise.reject(new Error('no more data')), 'no more data'],
      [() => ({ ...rows(0, 8), x: normal(createRng(1), [8, 2]) }), 'matmul'],
      [() => ({ x: 3 }), 'trainer.evaluateAll: batch.x: expected an array'],
      [
        () => {
          fails = true;
          return rows(0, 8);
        },
        'device lost',
      ],
    ];
    for (const [last, message] of refused) {
      await expect(trainer.evaluateAll(batches(last))).rejects.toThrow(message);
      fails = false;
      expect(live.size).toBe(held);
    }
    expect(finished).toBe(4);
    expect((await trainer.evaluateAll([rows(0, 8), rows(8, 16)])).loss).toBeCloseTo((await trainer.evaluate(rows(0, 16))).loss, 5);
    expect(live.size).toBe(held);
    await trainer.close();
    expect(live.size).toBe(0);
    await backend.close();
  });

  it.each(['trainer', 'backend'])('ends when the %s is closed meanwhile', async (what) => {
    const backend = await open();
    const live = trackGpuTensors(backend);
    const trainer = await measuring(backend);
    let left: number | undefined;
    async function* batches(): AsyncGenerator<ReturnType<typeof rows>> {
      yield rows(0, 8);
      yield rows(8, 16);
      await (what === 'trainer' ? trainer : backend).close();
      left = live.size; // later it is too late: what a session made must go before it
      yield rows(0, 8);
    }
    await expect(trainer.evaluateAll(batches())).rejects.toThrow(`trainer.evaluateAll: the ${what} is closed`);
    expect(left).toBe(0);
    await trainer.close();
    await backend.close();
  });
});
