import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, describe, expect, expectTypeOf, it } from 'vitest';
import { array, filled, type NDArray } from '../../src/index.js';
import { connectWorker, type Remote, type Report, serveWorker, type WorkerConnection, type WorkerPort } from '../../src/train/index.js';
import { createRegression } from '../support/regression.js';
import { startWorker } from '../support/worker.js';
import type { Training } from './training-worker.js';

const file = new URL('./training-worker.ts', import.meta.url);
const batch = {
  x: array([
    [1, 2],
    [3, 4],
    [0, 1],
  ]),
  y: array([[1], [0], [1]]),
};

/** What a promise is rejected with. */
const errorOf = async (promise: Promise<unknown>): Promise<Error> => {
  const [result] = await Promise.allSettled([promise]);
  if (result.status === 'fulfilled') throw new Error(`fulfilled with ${result.value}`);
  return result.reason;
};

describe('a trainer in a worker', () => {
  let worker: Worker;
  let remote: Remote<Training>;
  let connection: WorkerConnection<Training>;
  beforeAll(() => {
    worker = startWorker(file);
    connection = connectWorker<Training>(worker);
    remote = connection.remote;
  });
  afterAll(async () => {
    await worker.terminate();
  });

  it('trains as one here does, in order', async () => {
    await using local = await createRegression();
    const losses = await Promise.all([remote.step(batch), remote.step(batch), remote.step(batch)]);
    const [params, state, steps] = await Promise.all([remote.params(), remote.optimizerState(), remote.steps()]);
    expect(losses).toEqual([await local.step(batch), await local.step(batch), await local.step(batch)]);
    expect(losses[0]?.loss).toBeGreaterThan(losses[2]?.loss as number);
    expect(params).toEqual(await local.params());
    expect(state).toEqual(await local.optimizerState());
    expect(steps).toBe(3);
    expect(await remote.predict(batch.x)).toEqual(await local.predict(batch.x));
  });

  it('runs a call after those that were made before it', async () => {
    const before = await remote.steps();
    const first = remote.step(batch);
    const params = remote.params();
    const second = remote.step(batch);
    await second;
    expect(await remote.steps()).toBe(before + 2);
    expect(await params).not.toEqual(await remote.params());
    expect((await first).loss).not.toBe((await second).loss);
  });

  it('leaves this thread free', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const loss = await remote.fit({ x: filled([512, 2], 0.25), y: filled([512, 1], 1) }, 200);
    clearInterval(timer);
    expect(loss).toBeLessThan(1);
    expect(ticks).toBeGreaterThan(0);
  });

  it('copies arguments', async () => {
    const values = { x: array([[1, 1]]), y: array([[1]]) };
    await remote.step(values);
    expect(values).toEqual({ x: array([[1, 1]]), y: array([[1]]) });
  });

  it('moves whole arrays of results, and copies parts of arrays', async () => {
    expect(await remote.lengthsOfKept()).toEqual([3, 2]);
    const [first] = [array([1, 2, 3])];
    expect(await remote.returnKept()).toEqual({ whole: first, part: new Float32Array([4]), both: [first] });
    expect(await remote.lengthsOfKept()).toEqual([0, 2]);
  });

  it('refuses to return an array that was moved before, in that call alone', async () => {
    // After the test above, what is kept is gone.
    const calls = [remote.steps(), remote.returnKept(), remote.returnKeptInMap(), remote.circular()] as const;
    const [before, again, inMap, after] = await Promise.allSettled(calls);
    expect(before.status).toBe('fulfilled');
    expect(after.status).toBe('fulfilled');
    expect(again).toMatchObject({
      reason: { name: 'TypeError', message: expect.stringContaining('remote.returnKept: its result cannot') },
    });
    expect(again).toMatchObject({ reason: { message: expect.stringContaining('an array that was moved before') } });
    expect(inMap).toMatchObject({ reason: { message: expect.stringMatching(/^remote\.returnKeptInMap: its result cannot .* detached/) } });
    // Of an empty array nothing is lost.
    expect(await remote.returnEmpty()).toEqual(new Float32Array(0));
    expect(await remote.returnEmpty()).toEqual(new Float32Array(0));
  });

  it('copies arrays in what is thrown', async () => {
    for (let i = 0; i < 2; i++) expect(await errorOf(remote.throwKept())).toEqual({ kept: new Float32Array([6, 7]) });
    expect(await remote.lengthOfThrown()).toBe(2);
  });

  it.each(['deep', 'withCircularError'] as const)('rejects only the call whose answer cannot be read: %s', async (name) => {
    const [before, unread, after] = await Promise.allSettled([remote.steps(), remote[name](), remote.steps()]);
    expect(before.status).toBe('fulfilled');
    // Which of them can be read, or not even be written, differs between versions of Node.
    const reason = unread.status === 'rejected' ? unread.reason : undefined;
    if (reason) expect(reason.message).toMatch(new RegExp(`^remote.${name}: (the answer could not be read|its result cannot be cloned): `));
    expect(after.status).toBe('fulfilled');
    expect(await remote.steps()).toBeGreaterThan(0);
  });

  it('clones results that contain themselves', async () => {
    const item = await remote.circular();
    expect(item.self).toBe(item);
    expect(item.data).toEqual(new Float32Array([1]));
  });

  it('gives errors back with type, message, cause and stack', async () => {
    const error = await errorOf(remote.fail());
    expect(error).toBeInstanceOf(RangeError);
    expect(error).toMatchObject({ name: 'RangeError', message: 'out of range' });
    expect(error.stack).toContain('training-worker');
    expect(error.cause).toBeInstanceOf(TypeError);
    expect((error.cause as Error).message).toBe('the cause');
    expect((error.cause as Error).stack).toContain('training-worker');
    const named = await errorOf(remote.failByName());
    expect(named).toBeInstanceOf(Error);
    expect(String(named)).toBe('DeadlineError: too late');
    expect(await errorOf(remote.throwValue())).toEqual({ code: 7 });
  });

  it('answers whatever the causes of an error are', async () => {
    const alone = await errorOf(remote.failInCircles(1));
    expect(alone).toBeInstanceOf(RangeError);
    expect(alone.message).toBe('error 0');
    expect(alone.cause).toBeUndefined();
    const circle = await errorOf(remote.failInCircles(3));
    expect(circle).toMatchObject({ message: 'error 2', cause: { message: 'error 1', cause: { message: 'error 0' } } });
    expect(((circle.cause as Error).cause as Error).cause).toBeUndefined();
    const long = await errorOf(remote.failForManyCauses());
    expect(long).toMatchObject({ message: 'error 19999', cause: { message: 'error 19998' } });
    const hidden = await errorOf(remote.failToSayWhy());
    expect(hidden.message).toBe('remote.failToSayWhy: what it threw cannot be cloned: of a value that has no text');
    expect(await remote.steps()).toBeGreaterThan(0);
  });

  it('gives errors of the trainer back', async () => {
    const wrong = remote.step({ x: array([[1, 2]]), y: array([[1, 2]]) });
    await expect(wrong).rejects.toThrow(new RangeError('mseLoss: input [1, 1] and target [1, 2] differ in shape'));
  });

  it('names a function that is not there', async () => {
    const call = (name: string) => errorOf((Reflect.get(remote, name) as () => Promise<unknown>)());
    const missing = await call('evaluate');
    expect(missing).toBeInstanceOf(TypeError);
    expect(missing.message).toMatch(/^remote\.evaluate: the worker serves 'step', 'params', .*'exit' only$/);
    // What all objects have is not served.
    expect((await call('toString')).message).toMatch(/^remote\.toString: the worker serves/);
  });

  it('names what cannot be cloned', async () => {
    const given = await errorOf(remote.step({ ...batch, y: (() => 1) as never }));
    expect(given).toBeInstanceOf(TypeError);
    expect(given.message).toMatch(/^remote\.step: the arguments cannot be cloned: \(\) => 1 could not be cloned/);
    expect((given.cause as Error).name).toBe('DataCloneError');
    const returned = await errorOf(remote.returnFunction());
    expect(returned).toBeInstanceOf(TypeError);
    expect(returned.message).toMatch(/^remote\.returnFunction: its result cannot be cloned: .* could not be cloned/);
    const thrown = await errorOf(remote.throwFunction());
    expect(thrown.message).toMatch(/^remote\.throwFunction: what it threw cannot be cloned: .* could not be cloned/);
    // It goes on.
    expect(await remote.steps()).toBeGreaterThan(0);
  });

  it('shares the worker with other messages and connections', async () => {
    await using second = connectWorker<Training>(worker);
    worker.postMessage({ tracegrad: 'unknown' });
    worker.postMessage('text');
    const [a, b] = await Promise.all([remote.steps(), second.remote.steps()]);
    expect(a).toBe(b);
    await second.close();
    expect((await errorOf(second.remote.steps())).message).toBe('remote.steps: the connection is closed');
    expect(await remote.steps()).toBe(a);
  });

  it('can be awaited, as it is no promise', async () => {
    expect(await Promise.resolve(remote)).toBe(remote);
  });

  it('can be written as JSON, which calls nothing', () => {
    expect(Reflect.get(remote, 'toJSON')).toBeUndefined();
    expect(JSON.stringify({ remote })).toBe('{"remote":{}}');
  });

  it('has the types of the functions', () => {
    expectTypeOf(remote.steps).toEqualTypeOf<() => Promise<number>>();
    expectTypeOf(remote.step).returns.resolves.toEqualTypeOf<Report<never>>();
    expectTypeOf(remote.params).returns.resolves.toEqualTypeOf<{ w: NDArray }>();
    expectTypeOf<globalThis.Worker>().toExtend<WorkerPort>();
    expectTypeOf<globalThis.MessagePort>().toExtend<WorkerPort>();
    // @ts-expect-error a value is no function
    const wrong: Remote<{ steps: number }> | undefined = undefined;
    expect(wrong).toBeUndefined();
  });
});

describe('a worker that ends', () => {
  const started: Worker[] = [];
  const connect = () => {
    const worker = startWorker(file);
    started.push(worker);
    return { worker, ...connectWorker<Training>(worker) };
  };
  afterEach(async () => {
    for (const worker of started.splice(0)) await worker.terminate();
  });

  it('by an uncaught error rejects its calls', async () => {
    const { remote } = connect();
    const [never, crash] = await Promise.all([errorOf(remote.never()), errorOf(remote.crash())]);
    expect(never.message).toBe('remote.never: the worker failed: it broke');
    expect(crash.message).toBe('remote.crash: the worker failed: it broke');
    expect(crash.cause).toBeInstanceOf(RangeError);
    expect((await errorOf(remote.steps())).message).toBe('remote.steps: the worker failed: it broke');
  });

  it('by process.exit rejects its calls', async () => {
    const { remote } = connect();
    expect((await errorOf(remote.exit(3))).message).toBe('remote.exit: the worker has exited (code 3)');
    expect((await errorOf(remote.steps())).message).toBe('remote.steps: the worker has exited (code 3)');
  });

  it('by terminate() rejects its calls', async () => {
    const { remote, worker } = connect();
    await remote.steps();
    const never = errorOf(remote.never());
    await worker.terminate();
    expect((await never).message).toBe('remote.never: the worker has exited (code 1)');
  });

  it('before it serves rejects its calls', async () => {
    const worker = startWorker(new URL('./missing-worker.ts', import.meta.url));
    const { remote } = connectWorker<Training>(worker);
    expect((await errorOf(remote.steps())).message).toMatch(/^remote\.steps: the worker failed: .*missing-worker/);
  });

  it('by itself, as what it serves is closed, rejects later calls', async () => {
    const { remote, worker } = connect();
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    await remote.close();
    expect(await exited).toBe(0);
    expect((await errorOf(remote.steps())).message).toBe('remote.steps: the worker serves no more');
  });

  it('is not ended by the connection, whose calls are rejected', async () => {
    const { remote, close, worker } = connect();
    const never = errorOf(remote.never());
    await close();
    expect((await never).message).toBe('remote.never: the connection is closed');
    expect(await connectWorker<Training>(worker).remote.steps()).toBe(0);
  });
});

describe('a MessageChannel', () => {
  it('serves within one thread', async () => {
    const { port1, port2 } = new MessageChannel();
    await using _ = serveWorker({ double: (x: number) => 2 * x }, port1);
    await using connection = connectWorker<{ double(x: number): number }>(port2);
    expect(await connection.remote.double(4)).toBe(8);
    port1.close();
    expect((await errorOf(connection.remote.double(1))).message).toBe('remote.double: the port was closed');
  });

  it('refuses calls while set-up fails, with its error', async () => {
    const { port1, port2 } = new MessageChannel();
    const server = serveWorker(Promise.reject<{ run(): void }>(new RangeError('no device')), port1);
    const { remote } = connectWorker<{ run(): void }>(port2);
    await expect(remote.run()).rejects.toThrow(new RangeError('no device'));
    await server.close();
    port1.close();
  });

  it('answers calls that run when it is closed', async () => {
    const { port1, port2 } = new MessageChannel();
    let release: (() => void) | undefined;
    const functions = {
      wait: () => new Promise<string>((resolve) => (release = () => resolve('done'))),
      close: async () => {
        await server.close();
        return 'closed';
      },
    };
    const server = serveWorker(functions, port1);
    const { remote } = connectWorker<typeof functions>(port2);
    const waiting = remote.wait();
    expect(await remote.close()).toBe('closed');
    release?.();
    expect(await waiting).toBe('done');
    expect((await errorOf(remote.wait())).message).toBe('remote.wait: the worker serves no more');
    port1.close();
  });

  it('ends after calls whose errors are circular', async () => {
    const { port1, port2 } = new MessageChannel();
    const functions = {
      fail: () => {
        const error = new Error('again');
        error.cause = error;
        throw error;
      },
    };
    const server = serveWorker(functions, port1);
    const { remote } = connectWorker<typeof functions>(port2);
    expect((await errorOf(remote.fail())).message).toBe('again');
    await server.close();
    expect((await errorOf(remote.fail())).message).toBe('remote.fail: the worker serves no more');
    port1.close();
  });

  it('is served once at a time', async () => {
    const { port1, port2 } = new MessageChannel();
    const functions = { run: () => 1 };
    const server = serveWorker(functions, port1);
    expect(() => serveWorker({ run: () => 2 }, port1)).toThrow(
      'serveWorker: port: it is served already; serve one object of all functions, or one end of a MessageChannel for each',
    );
    const first = connectWorker<typeof functions>(port2);
    expect(await first.remote.run()).toBe(1);
    await server.close();
    expect((await errorOf(first.remote.run())).message).toBe('remote.run: the worker serves no more');
    const again = serveWorker({ run: () => 3 }, port1);
    const second = connectWorker<typeof functions>(port2);
    expect(await second.remote.run()).toBe(3);
    await again.close();
    port1.close();
  });

  it('is refused for an object without functions of its own', async () => {
    class Training {
      step(): number {
        return 1;
      }
    }
    const expected =
      'serveWorker: functions: expected an object with functions of its own (methods of a class are not: { run: () => instance.run() }), received';
    const { port1, port2 } = new MessageChannel();
    expect(() => serveWorker(new Training() as never, port1)).toThrow(new TypeError(`${expected} a Training`));
    expect(() => serveWorker({}, port1)).toThrow(new TypeError(`${expected} an object with keys (none)`));
    serveWorker(Promise.resolve(new Training() as never), port1);
    const { remote } = connectWorker<{ step(): number }>(port2);
    await expect(remote.step()).rejects.toThrow(new TypeError(`${expected} a Training`));
    port1.close();
  });

  it('goes on after messages that cannot be read, of others and its own', async () => {
    const { port1, port2 } = new MessageChannel();
    const functions = { same: (x: unknown) => x };
    const server = serveWorker(functions, port1);
    const { remote } = connectWorker<typeof functions>(port2);
    const unreadable = () => {
      const buffer = new ArrayBuffer(8);
      structuredClone(buffer, { transfer: [buffer] });
      return buffer;
    };
    const postUnreadable = (port: MessagePort) => ((buffer) => port.postMessage(buffer, [buffer]))(unreadable());
    postUnreadable(port1);
    postUnreadable(port2);
    expect(await remote.same(1)).toBe(1);
    const circular = new Error('an argument');
    circular.cause = circular;
    const [given, other] = await Promise.all([
      remote.same(circular).then(
        () => undefined,
        (error) => error,
      ),
      remote.same(2),
    ]);
    // Node 20 cannot read such an error, later versions may.
    if (given) expect(given.message).toMatch(/^remote\.same: the arguments could not be read: /);
    expect(other).toBe(2);
    await server.close();
    port1.close();
  });

  it('is closed for what comes after close', async () => {
    const { port1, port2 } = new MessageChannel();
    const server = serveWorker({ run: () => 1 }, port1);
    const { remote } = connectWorker<{ run(): number }>(port2);
    expect(await remote.run()).toBe(1);
    await server.close();
    await server.close();
    expect((await errorOf(remote.run())).message).toBe('remote.run: the worker serves no more');
    port1.close();
  });
});

/** Two ends as browsers have them: event targets, whose messages are lost where nobody listens. */
function targets(): [Target, Target] {
  const ends: [Target, Target] = [new Target(), new Target()];
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return ends;
}

class Target extends EventTarget {
  other: Target | undefined;
  unreadable = (_data: unknown) => false;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void {
    const data = structuredClone(message, { transfer });
    const { other } = this;
    queueMicrotask(() =>
      other?.dispatchEvent(other.unreadable(data) ? new MessageEvent('messageerror') : new MessageEvent('message', { data })),
    );
  }
}

describe('event targets', () => {
  it('lose no call that is made before the worker serves, and send it as it was', async () => {
    const [page, scope] = targets();
    const { remote } = connectWorker<{ total(x: Float32Array): number }>(page);
    const x = new Float32Array([1, 2]);
    const total = remote.total(x);
    x.fill(7);
    const bad = errorOf(remote.total((() => 1) as never));
    await new Promise((resolve) => setTimeout(resolve));
    serveWorker({ total: (given: Float32Array) => given.reduce((a, b) => a + b) }, scope);
    expect(await total).toBe(3);
    expect((await bad).message).toMatch(/^remote\.total: the arguments cannot be cloned/);
    expect(await remote.total(x)).toBe(14);
  });

  it('connect later than the worker serves', async () => {
    const [page, scope] = targets();
    serveWorker({ one: () => 1 }, scope);
    await new Promise((resolve) => setTimeout(resolve));
    expect(await connectWorker<{ one(): number }>(page).remote.one()).toBe(1);
  });

  it('tell of errors', async () => {
    const [page] = targets();
    const { remote } = connectWorker<{ one(): number }>(page);
    const waiting = errorOf(remote.one());
    page.dispatchEvent(new Event('error'));
    expect((await waiting).message).toBe('remote.one: the worker failed: its script could not be loaded');
  });

  it('tell of answers that cannot be read', async () => {
    const [page, scope] = targets();
    let unread = '';
    page.unreadable = (data) => unread !== '' && (data as { value?: unknown }).value === unread;
    const { remote } = connectWorker<{ same(x: string): string }>(page);
    serveWorker({ same: (x: string) => x }, scope);
    // A message of others.
    page.dispatchEvent(new MessageEvent('messageerror'));
    unread = 'b';
    const [a, b, c] = await Promise.all([remote.same('a'), errorOf(remote.same('b')), remote.same('c')]);
    expect([a, b.message, c]).toEqual(['a', 'remote.same: the answer could not be read', 'c']);
  });
});

describe('wrong arguments', () => {
  const { port1 } = new MessageChannel();
  afterAll(() => port1.close());

  it.each<[message: string, run: () => unknown]>([
    [
      "serveWorker: port: expected a Worker or a MessagePort (in a worker of Node: parentPort of 'node:worker_threads'), received null",
      () => serveWorker({}, null),
    ],
    ['serveWorker: functions: expected an object of functions, received null', () => serveWorker(null as never, port1)],
    [
      'serveWorker: functions.steps: expected a function (of a value: () => value), received 3',
      () => serveWorker({ steps: 3 } as never, port1),
    ],
    ['connectWorker: worker: expected a Worker or a MessagePort, received undefined', () => connectWorker(undefined as never)],
    ["connectWorker: worker: expected a Worker or a MessagePort, received 'worker.js'", () => connectWorker('worker.js' as never)],
  ])('%s', (message, run) => {
    expect(run).toThrow(new TypeError(message));
  });

  it('without a port, in a thread that is no worker', () => {
    expect(() => serveWorker({})).toThrow("parentPort of 'node:worker_threads'");
  });
});
