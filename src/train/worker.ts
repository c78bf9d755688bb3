import { show, wrongType } from '../core/errors.js';

/**
 * One end of a channel: a `Worker`, a `MessagePort`, or the global scope of a worker, of a browser or of Node's
 * `worker_threads`.
 */
export interface WorkerPort {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
}

/** What a worker serves: an object of functions. */
// biome-ignore lint/suspicious/noExplicitAny: functions of any signature
export type WorkerFunctions<A> = { readonly [K in keyof A]: (...args: any[]) => unknown };

/** The functions of a worker as they are seen from outside: all of them return promises. */
export type Remote<A extends WorkerFunctions<A>> = {
  readonly [K in keyof A]: (...args: Parameters<A[K]>) => Promise<Awaited<ReturnType<A[K]>>>;
};

/** The end of {@link serveWorker}. */
export interface WorkerServer extends AsyncDisposable {
  /**
   * Takes no more calls, and lets a worker of Node end by itself. Calls that run already are answered; those that come later are
   * refused.
   */
  close(): Promise<void>;
}

/** The end of {@link connectWorker}. */
export interface WorkerConnection<A extends WorkerFunctions<A>> extends AsyncDisposable {
  /** Calls the functions that the worker serves. */
  readonly remote: Remote<A>;
  /** Rejects the calls that are not answered yet and all later ones, and listens no more. The worker goes on; `worker.terminate()` ends it. */
  close(): Promise<void>;
}

/** All messages carry this key, so that others may use the port too. */
type Message = { readonly tracegrad: 'hello' | 'ready' | 'end' } | Call | Answer;

/** Comes right before each call and each answer: if that cannot be read over there, this tells whose it was. */
interface Announcement {
  readonly tracegrad: 'next';
  readonly id: number;
  readonly name: string;
}

interface Call {
  readonly tracegrad: 'call';
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

type Outcome = { readonly value: unknown } | { readonly error: Thrown };

type Answer = { readonly tracegrad: 'answer'; readonly id: number } & Outcome;

/** What was thrown. Errors lose their class and name when they are cloned. */
type Thrown =
  | { readonly value: unknown }
  | { readonly name: string; readonly message: string; readonly stack: string | undefined; readonly cause?: Thrown };

function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return 'of a value that has no text';
  }
}

/** The other side must be able to read the message, and its stack may be smaller. */
const MAX_CAUSES = 100;

/** @param effects the errors that this one is the cause of; a chain of causes that leads back to one ends there */
function fromError(error: unknown, effects: readonly unknown[] = []): Thrown {
  if (!(error instanceof Error)) return { value: error };
  const { name, message, stack, cause } = error;
  const chain = [...effects, error];
  const last = cause === undefined || chain.includes(cause) || chain.length > MAX_CAUSES;
  return { name, message, stack, ...(last ? {} : { cause: fromError(cause, chain) }) };
}

const errorTypes = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

function toError(thrown: Thrown): unknown {
  if ('value' in thrown) return thrown.value;
  const { name, message, stack, cause } = thrown;
  const Type = Object.hasOwn(errorTypes, name) ? errorTypes[name as keyof typeof errorTypes] : Error;
  const error = new Type(message, cause === undefined ? {} : { cause: toError(cause) });
  const own = (value: unknown) => ({ value, writable: true, configurable: true });
  return Object.defineProperties(error, { name: own(name), stack: own(stack) });
}

/** ArrayBuffer.prototype.detached is not everywhere yet. */
function isDetached(buffer: ArrayBuffer): boolean {
  try {
    buffer.slice(0, 0);
    return false;
  } catch {
    return true;
  }
}

/**
 * The buffers of the arrays in a result that are whole buffers: parts of a buffer are copied.
 *
 * @throws if an array has lost its buffer, which Node would send as something that cannot be read
 */
function buffersOf(result: unknown): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  const items = new Set([result]); // grows while it is gone through
  for (const item of items) {
    if (ArrayBuffer.isView(item)) {
      const { buffer } = item;
      if (!(buffer instanceof ArrayBuffer)) continue;
      if (isDetached(buffer)) {
        throw new TypeError('it holds an array that was moved before, with another result perhaps; return copies of arrays that are kept');
      }
      if (item.byteLength > 0 && item.byteLength === buffer.byteLength) buffers.add(buffer);
    } else if (typeof item === 'object' && item !== null) {
      for (const child of Object.values(item)) if (typeof child === 'object') items.add(child);
    }
  }
  return [...buffers];
}

/** Posts a call or an answer. */
function send(port: WorkerPort, name: string, message: Call | Answer, transfer: ArrayBuffer[] = []): void {
  const next: Announcement = { tracegrad: 'next', id: message.id, name };
  port.postMessage(next, []);
  port.postMessage(message, transfer);
}

type Listener = (value: never) => void;

/** Workers and ports of Node are event emitters, those of browsers event targets. */
interface Emitter {
  on(event: string, listener: Listener): void;
  off(event: string, listener: Listener): void;
}

interface Target {
  addEventListener(event: string, listener: Listener): void;
  removeEventListener(event: string, listener: Listener): void;
  /** Of a MessagePort. */
  start?(): void;
}

interface Events {
  message(message: Message): void;
  /** A call or an answer came that could not be read. */
  unreadable(announcement: Announcement, reason: string, cause: unknown): void;
  /** The channel has come to an end. */
  end(what: string, cause?: unknown): void;
}

/** Listens to a port until the result is called. */
function listen(port: WorkerPort, { message, unreadable, end }: Events): () => void {
  let announced: Announcement | undefined;
  const take = (data: unknown) => {
    announced = undefined;
    if (typeof data !== 'object' || data === null || !('tracegrad' in data)) return;
    if (data.tracegrad === 'next') announced = data as Announcement;
    else message(data as Message);
  };
  const failedToRead = (cause: unknown) => {
    // What was not announced is not ours.
    if (announced) unreadable(announced, cause instanceof Error ? `: ${cause.message}` : '', cause);
    announced = undefined;
  };
  const failed = (error: unknown) => end(`the worker failed: ${messageOf(error)}`, error);
  if ('on' in port) {
    const emitter = port as unknown as Emitter;
    const listeners: Record<string, Listener> = {
      message: take,
      messageerror: failedToRead,
      error: failed,
      exit: (code: number) => end(`the worker has exited (code ${code})`),
      close: () => end('the port was closed'),
    };
    for (const [event, listener] of Object.entries(listeners)) emitter.on(event, listener);
    return () => {
      for (const [event, listener] of Object.entries(listeners)) emitter.off(event, listener);
    };
  }
  const target = port as unknown as Target;
  const listeners: Record<string, Listener> = {
    message: ({ data }: MessageEvent) => take(data),
    messageerror: () => failedToRead(undefined),
    // Without a message where the script could not be loaded.
    error: ({ error, message: text }: ErrorEvent) => failed(error ?? text ?? 'its script could not be loaded'),
    close: () => end('the port was closed'),
  };
  for (const [event, listener] of Object.entries(listeners)) target.addEventListener(event, listener);
  target.start?.();
  return () => {
    for (const [event, listener] of Object.entries(listeners)) target.removeEventListener(event, listener);
  };
}

function checkPort(fn: string, argument: string, port: unknown, hint: string): void {
  const { postMessage, on, addEventListener } = (port ?? {}) as Partial<WorkerPort & Emitter & Target>;
  if (typeof postMessage !== 'function' || typeof (on ?? addEventListener) !== 'function') {
    throw wrongType(fn, argument, `a Worker or a MessagePort${hint}`, port);
  }
}

function checkFunctions(functions: unknown): asserts functions is Readonly<Record<string, (...args: readonly unknown[]) => unknown>> {
  const fn = 'serveWorker';
  if (typeof functions !== 'object' || functions === null) throw wrongType(fn, 'functions', 'an object of functions', functions);
  const entries = Object.entries(functions);
  if (entries.length === 0) {
    const expected = 'an object with functions of its own (methods of a class are not: { run: () => instance.run() })';
    throw wrongType(fn, 'functions', expected, functions);
  }
  for (const [name, value] of entries) {
    if (typeof value !== 'function') throw wrongType(fn, `functions.${name}`, 'a function (of a value: () => value)', value);
  }
}

/**
 * The ports that are served. Two servers would answer each call twice, and the port's end could not tell which one has closed.
 */
const servedPorts = new WeakSet<WorkerPort>();

/**
 * Serves functions to the other side of a worker, where {@link connectWorker} calls them.
 *
 * A run of ONNX Runtime on the CPU blocks its thread in Node, and tracing does so everywhere. In a worker it does not block the page or the
 * server. Models are functions, which cannot be sent to a worker, so the worker's file builds the trainer itself.
 *
 * Calls start in the order in which they were made, and like local ones they do not wait for each other. Arguments and results are
 * cloned (`structuredClone`), so functions as arguments, callbacks among them, are not possible. Typed arrays in a result are moved,
 * not copied, where they are all of their buffer: return copies of arrays that the worker keeps, as an array that
 * was moved cannot be returned again. Errors come back with name, message, cause and stack; the native types (`RangeError`) keep their type.
 *
 * @param functions an object of functions, or the promise of one: calls wait for it, and if it fails they fail with its error. It has them
 *   as its own, so an instance of a class is none. Functions called `then` and `toJSON` cannot be called from outside
 * @param port default: the global scope, which is right in workers of browsers. In Node `parentPort` of `node:worker_threads`. One end of
 *   a `MessageChannel` serves as well
 * @throws if a value is no function, there are none, there is no port, or the port is served already
 * @example
 * ```ts
 * import { parentPort } from 'node:worker_threads';
 * import { array, type Tensor } from 'tracegrad';
 * import { mseLoss } from 'tracegrad/losses';
 * import { createBackend } from 'tracegrad/node';
 * import { sgd } from 'tracegrad/optim';
 * import { createTrainer, serveWorker } from 'tracegrad/train';
 *
 * async function setUp() {
 *   const trainer = await createTrainer(await createBackend({ device: 'cpu' }), {
 *     loss: (p: { w: Tensor }, target: Tensor) => mseLoss(p.w, target),
 *     params: { w: array([0, 0]) },
 *     optimizer: sgd({ learningRate: 0.1 }),
 *   });
 *   return { step: trainer.step, params: trainer.params, steps: () => trainer.steps };
 * }
 *
 * export type Training = Awaited<ReturnType<typeof setUp>>;
 * serveWorker(setUp(), parentPort);
 * ```
 */
export function serveWorker<A extends WorkerFunctions<A>>(
  functions: A | Promise<A>,
  port: WorkerPort | null = globalThis as unknown as WorkerPort,
): WorkerServer {
  checkPort('serveWorker', 'port', port, " (in a worker of Node: parentPort of 'node:worker_threads')");
  const open = port as WorkerPort;
  if (!(functions instanceof Promise)) checkFunctions(functions);
  if (servedPorts.has(open)) {
    throw new Error('serveWorker: port: it is served already; serve one object of all functions, or one end of a MessageChannel for each');
  }
  servedPorts.add(open);
  const served = Promise.resolve<unknown>(functions);
  served.catch(() => undefined); // the calls see it
  let running = 0;
  let closed = false;
  const post = (message: Message) => open.postMessage(message, []);
  const finish = () => {
    servedPorts.delete(open);
    post({ tracegrad: 'end' });
  };

  const run = async ({ name, args }: Call): Promise<unknown> => {
    const all = await served;
    checkFunctions(all);
    const named = Object.hasOwn(all, name) ? all[name] : undefined;
    if (!named) throw new TypeError(`remote.${name}: the worker serves ${Object.keys(all).map(show).join(', ')} only`);
    return named.apply(all, [...args]);
  };
  const answer = ({ id, name }: Pick<Call, 'id' | 'name'>, outcome: Outcome, transfer?: ArrayBuffer[]): void =>
    send(open, name, { tracegrad: 'answer', id, ...outcome }, transfer);
  const answerResult = (call: Call, value: unknown): void => {
    const buffers = buffersOf(value);
    try {
      answer(call, { value }, buffers);
    } catch {
      // Some buffers cannot be moved.
      answer(call, { value });
    }
  };
  const take = async (call: Call): Promise<void> => {
    running++;
    let what = 'what it threw';
    try {
      const outcome = await run(call).then(
        (value) => ({ value }),
        (error: unknown) => ({ error: fromError(error) }),
      );
      if ('error' in outcome) answer(call, outcome);
      else {
        what = 'its result';
        answerResult(call, outcome.value);
      }
    } catch (cause) {
      answer(call, { error: fromError(new TypeError(`remote.${call.name}: ${what} cannot be cloned: ${messageOf(cause)}`)) });
    } finally {
      running--;
      if (closed && running === 0) finish();
    }
  };
  const stop = listen(open, {
    message: (message) => {
      if (message.tracegrad === 'hello') post({ tracegrad: 'ready' });
      else if (message.tracegrad === 'call') void take(message);
    },
    unreadable: (call, reason) =>
      answer(call, { error: fromError(new TypeError(`remote.${call.name}: the arguments could not be read${reason}`)) }),
    end: () => undefined,
  });
  post({ tracegrad: 'ready' });
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    stop();
    if (running === 0) finish();
  };
  return { close, [Symbol.asyncDispose]: close };
}

interface Pending {
  readonly name: string;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Of all connections, as several may share a port. */
let lastId = 0;

/**
 * Calls the functions that a worker serves with {@link serveWorker}.
 *
 * Calls that are made before the worker serves wait for it. If the worker fails with an uncaught error or ends, the calls that are not
 * answered and all later ones are rejected. Browsers tell nobody of `worker.terminate()`: there, close the connection too.
 *
 * @typeParam A the type of what is served, which the worker's file exports
 * @param worker a `Worker`, or one end of a `MessageChannel`
 * @throws if `worker` is neither
 * @example
 * ```ts
 * import { Worker } from 'node:worker_threads';
 * import { array, type ArrayInputs, type NDArray, type Tensor } from 'tracegrad';
 * import { connectWorker, type Report } from 'tracegrad/train';
 *
 * // Or the type that the worker's file exports.
 * interface Training {
 *   step(batch: ArrayInputs<Tensor>): Promise<Report>;
 *   params(): Promise<{ w: NDArray }>;
 *   steps(): number;
 * }
 *
 * const worker = new Worker(new URL('./training.js', import.meta.url));
 * const { remote } = connectWorker<Training>(worker);
 * const { loss } = await remote.step(array([1, 2]));
 * console.log(loss, await remote.steps());
 * await worker.terminate();
 * ```
 */
export function connectWorker<A extends WorkerFunctions<A>>(worker: WorkerPort): WorkerConnection<A> {
  checkPort('connectWorker', 'worker', worker, '');
  const pending = new Map<number, Pending>();
  const post = (message: Message) => worker.postMessage(message, []);
  let ended: ((name: string) => Error) | undefined;
  // What a worker of a browser is sent before it listens is lost.
  let waiting: Call[] | undefined = [];

  const end = (what: string, cause?: unknown): void => {
    if (ended) return;
    ended = (name) => new Error(`remote.${name}: ${what}`, cause === undefined ? {} : { cause });
    stop();
    for (const { name, reject } of pending.values()) reject(ended(name));
    pending.clear();
  };
  const stop = listen(worker, {
    message: (message) => {
      if (message.tracegrad === 'ready') {
        for (const call of waiting ?? []) send(worker, call.name, call);
        waiting = undefined;
      } else if (message.tracegrad === 'end') {
        end('the worker serves no more');
      } else if (message.tracegrad === 'answer') {
        const call = pending.get(message.id);
        pending.delete(message.id);
        if ('error' in message) call?.reject(toError(message.error));
        else call?.resolve(message.value);
      }
    },
    unreadable: ({ id, name }, reason, cause) => {
      pending.get(id)?.reject(new Error(`remote.${name}: the answer could not be read${reason}`, { cause }));
      pending.delete(id);
    },
    end,
  });
  post({ tracegrad: 'hello' });

  const call = (name: string, args: readonly unknown[]): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (ended) throw ended(name);
      const message: Call = { tracegrad: 'call', id: ++lastId, name, args };
      try {
        // As they are now, whatever becomes of them until they are sent.
        if (waiting) waiting.push(structuredClone(message));
        else send(worker, name, message);
      } catch (cause) {
        throw new TypeError(`remote.${name}: the arguments cannot be cloned: ${messageOf(cause)}`, { cause });
      }
      pending.set(message.id, { name, resolve, reject });
    });
  const remote = new Proxy(Object.create(null), {
    // await calls what has `then`, JSON.stringify what has `toJSON`.
    get: (_, name) =>
      typeof name === 'symbol' || name === 'then' || name === 'toJSON' ? undefined : (...args: unknown[]) => call(name, args),
  });
  const close = async (): Promise<void> => end('the connection is closed');
  return { remote, close, [Symbol.asyncDispose]: close };
}
