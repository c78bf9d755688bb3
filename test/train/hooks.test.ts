import { describe, expect, it } from 'vitest';
import { sum } from '../../src/index.js';
import { adam } from '../../src/optim/index.js';
import type { Report } from '../../src/train/index.js';
import { testDevices } from '../support/test-devices.js';
import { everything, loss, regression, rows } from './fixtures.js';

const pause = () => new Promise((resolve) => setTimeout(resolve, 2));

describe.each(await testDevices())('hooks (%s)', (_, backend) => {
  it('come before and after every step, with its number and its report', async () => {
    const log: unknown[] = [];
    await using trainer = await regression(backend, {
      loss: (p, b) => ({ loss: loss(p, b), metrics: { bias: sum(p.b) } }),
      beforeStep: (step) => log.push(['before', step, trainer.steps]),
      afterStep: (report, step) => log.push(['after', step, trainer.steps, report]),
    });
    const reports = [await trainer.step(rows(0, 8)), await trainer.step(rows(8, 16))];
    expect(log).toEqual([
      ['before', 0, 0],
      ['after', 0, 1, reports[0]],
      ['before', 1, 1],
      ['after', 1, 2, reports[1]],
    ]);
    await trainer.evaluate(rows(0, 8));
    await trainer.predict(rows(0, 8).x);
    expect(log).toHaveLength(4);
  });

  it('are awaited, also between steps that are not', async () => {
    const log: string[] = [];
    await using trainer = await regression(backend, {
      beforeStep: async (step) => {
        log.push(`before ${step}`);
        await pause();
        log.push(`begin ${step}`);
      },
      afterStep: async (_report, step) => {
        await pause();
        log.push(`end ${step}`);
      },
    });
    await using twin = await regression(backend);
    const batches = [rows(0, 8), rows(4, 9), rows(8, 16)];
    const together = await Promise.all(batches.map(trainer.step));
    const oneByOne: Report[] = [];
    for (const batch of batches) oneByOne.push(await twin.step(batch));
    expect(together).toEqual(oneByOne);
    expect(log).toEqual([0, 1, 2].flatMap((step) => [`before ${step}`, `begin ${step}`, `end ${step}`]));
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('may use the trainer', async () => {
    const losses: number[] = [];
    await using trainer = await regression(backend, {
      beforeStep: async (step) => {
        trainer.learningRate = step === 1 ? 0 : undefined;
        losses.push((await trainer.evaluate(rows(0, 8))).loss);
      },
      afterStep: async () => losses.push((await trainer.snapshot()).step),
    });
    for (let step = 0; step < 3; step++) await trainer.step(rows(0, 8));
    const [first, , second, , third] = losses as [number, number, number, number, number];
    expect(second).toBeLessThan(first);
    expect(third).toBe(second);
    expect(losses.filter((_value, i) => i % 2 === 1)).toEqual([1, 2, 3]);
  });

  it.each(['throws', 'rejects'])('beforeStep prevents the step if it %s', async (how) => {
    let fails = false;
    const seen: number[] = [];
    const beforeStep = (step: number) => {
      seen.push(step);
      if (!fails) return;
      if (how === 'rejects') return Promise.reject(new Error('not now'));
      throw new Error('not now');
    };
    await using trainer = await regression(backend, { optimizer: adam(), beforeStep });
    await using twin = await regression(backend, { optimizer: adam() });
    await trainer.step(rows(0, 8));
    const before = await everything(trainer);
    fails = true;
    await expect(trainer.step(rows(0, 8))).rejects.toThrow('not now');
    expect(await everything(trainer)).toBe(before);
    fails = false;
    await trainer.step(rows(0, 8));
    expect(seen).toEqual([0, 1, 1]);
    for (let step = 0; step < 2; step++) await twin.step(rows(0, 8));
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('afterStep fails the call, not the step', async () => {
    const afterStep = (_report: Report, step: number) => {
      if (step === 0) throw new Error('disk full');
    };
    await using trainer = await regression(backend, { afterStep });
    await using twin = await regression(backend);
    const [first, second] = await Promise.allSettled([trainer.step(rows(0, 8)), trainer.step(rows(0, 8))]);
    await twin.step(rows(0, 8));
    expect(first).toMatchObject({ status: 'rejected', reason: new Error('disk full') });
    expect(second).toEqual({ status: 'fulfilled', value: await twin.step(rows(0, 8)) });
    expect(trainer.steps).toBe(2);
    expect(await everything(trainer)).toBe(await everything(twin));
  });

  it('say nothing after a step that failed, and none before one that cannot be', async () => {
    const log: string[] = [];
    const trainer = await regression(backend, {
      beforeStep: (step) => log.push(`before ${step}`),
      afterStep: (_report, step) => log.push(`after ${step}`),
    });
    await expect(trainer.step({ ...rows(0, 8), x: rows(0, 4).x })).rejects.toThrow();
    await trainer.step(rows(0, 8));
    expect(log).toEqual(['before 0', 'before 0', 'after 0']);
    const waiting = trainer.step(rows(0, 8));
    await trainer.close();
    await expect(waiting).rejects.toThrow('trainer.step: the trainer is closed');
    await expect(trainer.step(rows(0, 8))).rejects.toThrow('trainer.step: the trainer is closed');
    expect(log).toHaveLength(3);
  });

  it('are functions', async () => {
    for (const name of ['beforeStep', 'afterStep']) {
      await expect(regression(backend, { [name]: 3 as never })).rejects.toThrow(`createTrainer: ${name}: expected a function, received 3`);
    }
  });
});
