/** A worker that trains, and goes wrong in all ways: see worker.test.ts. */
import { parentPort } from 'node:worker_threads';
import { type ArrayInputs, array, type NDArray } from '../../src/index.js';
import { serveWorker } from '../../src/train/index.js';
import { type Batch, createRegression } from '../support/regression.js';

const kept: [NDArray, NDArray] = [array([1, 2, 3]), array([4, 5])];
const thrown = new Float32Array([6, 7]);
const empty = new Float32Array(0);

async function setUp() {
  const trainer = await createRegression();
  return {
    step: trainer.step,
    params: trainer.params,
    predict: trainer.predict,
    optimizerState: trainer.optimizerState,
    steps: () => trainer.steps,
    /** Many steps on one batch. */
    fit: async (batch: ArrayInputs<Batch>, steps: number): Promise<number> => {
      for (let i = 1; i < steps; i++) await trainer.step(batch);
      return (await trainer.step(batch)).loss;
    },
    close: async () => {
      await trainer.close();
      await server.close();
    },
    fail: (): never => {
      throw new RangeError('out of range', { cause: new TypeError('the cause') });
    },
    failByName: () => {
      const error = new Error('too late');
      error.name = 'DeadlineError';
      return Promise.reject(error);
    },
    /** Errors that are causes of each other, and more of them than are sent. */
    failInCircles: async (length: number): Promise<never> => {
      const first = new RangeError('error 0');
      let last: Error = first;
      for (let i = 1; i < length; i++) last = new Error(`error ${i}`, { cause: last });
      first.cause = last;
      throw last;
    },
    failForManyCauses: async (): Promise<never> => {
      let last: Error | undefined;
      for (let i = 0; i < 20_000; i++) last = new Error(`error ${i}`, { cause: last });
      throw last;
    },
    failToSayWhy: async (): Promise<never> => {
      const hostile = Object.create(null);
      throw Object.defineProperty(new Error('hidden'), 'message', {
        get: () => {
          throw hostile;
        },
      });
    },
    throwKept: () => Promise.reject({ kept: thrown }),
    lengthOfThrown: () => thrown.length,
    throwValue: () => Promise.reject({ code: 7 }),
    throwFunction: () => Promise.reject(() => 1),
    returnFunction: () => () => 1,
    /** What this thread, with its larger stack, can write and the other one cannot read, in Node 20 at least. */
    deep: () => {
      let item: object = {};
      for (let i = 0; i < 6000; i++) item = { item };
      return item;
    },
    withCircularError: () => {
      const error = new Error('in a result');
      error.cause = error;
      return { error };
    },
    returnEmpty: () => empty,
    returnKeptInMap: () => new Map([['kept', kept[0].data]]),
    returnKept: () => ({ whole: kept[0], part: kept[1].data.subarray(0, 1), both: [kept[0]] }),
    lengthsOfKept: () => kept.map(({ data }) => data.length),
    circular: () => {
      const item: { self?: unknown; data: Float32Array } = { data: new Float32Array([1]) };
      item.self = item;
      return item;
    },
    never: () => new Promise<void>(() => undefined),
    crash: () => {
      setTimeout(() => {
        throw new RangeError('it broke');
      });
      return new Promise<void>(() => undefined);
    },
    exit: (code: number): never => process.exit(code),
  };
}

export type Training = Awaited<ReturnType<typeof setUp>>;

const server = serveWorker(setUp(), parentPort);
