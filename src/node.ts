import { randomUUID } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { checkNumber, checkOneOf, checkOptions, outOfRange, wrongType } from './core/errors.js';
import { encode } from './onnx/encode.js';
import { type Backend, type Device, OrtBackend } from './runtime/backend.js';
import type { Ort } from './runtime/ort.js';
import { RunQueue } from './runtime/queue.js';

export type { Backend, Device } from './runtime/backend.js';

export interface BackendOptions {
  /** `'cpu'`, or `'webgpu'` for a GPU through Vulkan, Metal or Direct3D 12. */
  device: Device;
  /** CPU threads of one run of a large graph; small graphs use one. Default: all cores. */
  threads?: number;
  /** Bytes that sessions may hold, by an upper estimate; the least recently used are released. Default 1 GiB. */
  cacheBytes?: number;
}

/**
 * A thread that waits for work spins this long before it sleeps, and stops when the run ends: waking it for every
 * operation slows small steps down, spinning without end takes processor time from everything else.
 */
const SPINNING = { allow_spinning: '1', spin_duration_us: '50' };

// One device, one queue: two backends on one GPU must not run at the same time either.
const queues = new Map<Device, RunQueue>();

async function loadRuntime(): Promise<Ort> {
  try {
    return (await import('onnxruntime-node')) as unknown as Ort;
  } catch (cause) {
    throw new Error('createBackend: onnxruntime-node could not be loaded; install it with `npm install onnxruntime-node`', { cause });
  }
}

/** A graph that copies one number; if it runs, the device is there. */
async function probe(backend: OrtBackend): Promise<void> {
  const value = (name: string) => ({ name, dtype: 'float32', shape: [] }) as const;
  const nodes = [{ type: 'Neg', inputs: ['x'], outputs: ['y'], attributes: {} }];
  const model = encode({ nodes, initializers: new Map(), inputs: [value('x')], outputs: [value('y')] });
  const session = await backend.createSession({ model, threads: 1, kept: [] });
  await session.run({ x: new backend.ort.Tensor('float32', new Float32Array([1]), []) }, { y: null });
  backend.keep(session);
}

/**
 * A device of this machine, through onnxruntime-node.
 *
 * On WebGPU every op runs on the GPU: a graph that would fall back to the CPU is an error.
 *
 * @throws if onnxruntime-node is not installed or the device is not there
 * @example
 * ```ts
 * import { createBackend } from 'tracegrad/node';
 *
 * const backend = await createBackend({ device: 'cpu' });
 * await backend.close();
 * ```
 */
export async function createBackend(options: BackendOptions): Promise<Backend> {
  checkOptions('createBackend', options, ['device', 'threads', 'cacheBytes']);
  const { device, threads = availableParallelism(), cacheBytes = 2 ** 30 } = options;
  checkOneOf('createBackend', 'device', device, ['cpu', 'webgpu']);
  checkNumber('createBackend', 'threads', threads, 'a positive integer', (n) => Number.isInteger(n) && n > 0);
  checkNumber('createBackend', 'cacheBytes', cacheBytes, 'a number >= 0', (n) => n >= 0);
  const queue = queues.get(device) ?? new RunQueue();
  queues.set(device, queue);
  const sessionOptions =
    device === 'cpu'
      ? { executionProviders: ['cpu'], extra: { session: { intra_op: SPINNING, force_spinning_stop: '1' } } }
      : { executionProviders: ['webgpu'], extra: { session: { disable_cpu_ep_fallback: '1' } } };
  const backend = new OrtBackend(device, await loadRuntime(), queue, { cacheBytes, threads, sessionOptions });
  try {
    await queue.add(() => probe(backend));
  } catch (cause) {
    // The runtime's message begins with a place in its sources and a condition.
    const reason = (cause as Error).message.split(' was false. ').at(-1)?.trim();
    throw new Error(`createBackend: device '${device}' is not available here: ${reason}`, { cause });
  }
  return backend;
}

/** Writes data, or the names in a folder, out to the disk, and closes. A new file with `mode` has it before it has data. */
async function syncAndClose(path: string, flags: string, bytes?: Uint8Array, mode?: number): Promise<void> {
  const file = await open(path, flags, mode);
  try {
    // The process's umask may have taken some of it away.
    if (mode !== undefined) await file.chmod(mode);
    if (bytes) await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What systems say that cannot write a folder out to the disk, such as Windows. */
const noFolderSync = ['EACCES', 'EINVAL', 'EISDIR', 'EPERM'];

/**
 * Writes a file so that at any moment, even after a crash or a power failure, it holds either all of the old bytes or all of
 * the new ones; once the promise is fulfilled, the new ones.
 *
 * The bytes go to `<path>.<random>.tmp` first (of long file names it has the beginning only), which takes the place of `path`. If
 * writing fails the temporary file is removed; if the process is killed it stays, and may be deleted. The permissions of a file that
 * exists are kept. A symbolic link at `path` is replaced, not followed; the new file has the permissions of the one that it led to.
 *
 * @throws if `path` is empty or ends with a slash, and as the functions of `node:fs/promises` do
 * @example
 * ```ts
 * import { writeFileAtomic } from 'tracegrad/node';
 * import { type Snapshotable, save } from 'tracegrad/train';
 *
 * const checkpoint = async (trainer: Snapshotable) => writeFileAtomic('run.safetensors', await save(trainer));
 * ```
 */
export async function writeFileAtomic(path: string, bytes: Uint8Array): Promise<void> {
  if (typeof path !== 'string') throw wrongType('writeFileAtomic', 'path', 'a string', path);
  if (!(bytes instanceof Uint8Array)) throw wrongType('writeFileAtomic', 'bytes', 'a Uint8Array', bytes);
  if (path === '' || path.endsWith('/') || path.endsWith(sep)) {
    throw outOfRange('writeFileAtomic', 'path', 'the path of a file, not of a folder', path);
  }
  const target = resolve(path);
  // File systems allow names of 255 bytes, and a character has up to three.
  const temporary = join(dirname(target), `${basename(target).slice(0, 60)}.${randomUUID()}.tmp`);
  // If it cannot be told, there is no file, or writing fails and says why.
  const mode = await stat(target).then(
    (old) => old.mode & 0o777,
    () => undefined,
  );
  try {
    await syncAndClose(temporary, 'wx', bytes, mode);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncAndClose(dirname(target), 'r').catch((error: NodeJS.ErrnoException) => {
    if (!noFolderSync.includes(error.code ?? '')) throw error;
  });
}
