import type { Ort, OrtSession } from './ort.js';
import type { RunQueue } from './queue.js';
import { SessionCache } from './session-cache.js';

/** Where graphs run. */
export type Device = 'cpu' | 'webgpu';

/** A device with its sessions. Made by `createBackend` of `tracegrad/node`. */
export interface Backend extends AsyncDisposable {
  readonly device: Device;
  /** Releases all sessions. What was compiled for the backend cannot run afterwards. */
  close(): Promise<void>;
}

export interface BackendSettings {
  /** Bytes that sessions of this backend may hold, by an upper estimate; least recently used ones are released. */
  readonly cacheBytes: number;
  /** Threads of one run of a large graph on the CPU. */
  readonly threads: number;
  /** Session options of the execution provider. */
  readonly sessionOptions: Readonly<Record<string, unknown>>;
}

/** Below this many operations a second thread costs more than it brings. */
const SINGLE_THREAD_FLOPS = 1e7;

export interface SessionRequest {
  readonly model: Uint8Array;
  readonly threads: number;
  /** Outputs that stay on the device. */
  readonly kept: readonly string[];
  /** Whether the weights are constants of the model. */
  readonly constantWeights?: boolean;
}

/** @internal The backend that programs work with. */
export class OrtBackend implements Backend {
  readonly sessions: SessionCache;
  /** Releases what else lies on the device, before the sessions go and the device with them. */
  readonly resources = new Set<() => Promise<void>>();
  #keeper: OrtSession | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    readonly device: Device,
    readonly ort: Ort,
    readonly queue: RunQueue,
    private readonly settings: BackendSettings,
  ) {
    this.sessions = new SessionCache(settings.cacheBytes);
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /** How many threads a run of so many operations is worth. */
  threadsFor(flops: number): number {
    return this.device === 'cpu' && flops >= SINGLE_THREAD_FLOPS ? this.settings.threads : 1;
  }

  createSession({ model, threads, kept, constantWeights = false }: SessionRequest): Promise<OrtSession> {
    return this.ort.InferenceSession.create(model, {
      executionMode: 'sequential',
      // 'all' would add the blocked layout of images, which pays with constant weights only and costs reordering without.
      graphOptimizationLevel: constantWeights ? 'all' : 'extended',
      logSeverityLevel: 4, // what fails is thrown
      ...(this.device === 'cpu' ? { intraOpNumThreads: threads } : {}),
      ...(this.device === 'webgpu' ? { preferredOutputLocation: Object.fromEntries(kept.map((name) => [name, 'gpu-buffer'])) } : {}),
      ...this.settings.sessionOptions,
    });
  }

  /** Keeps a session until the end: the device lives as long as some session does. */
  keep(session: OrtSession): void {
    this.#keeper = session;
  }

  close(): Promise<void> {
    this.#closing ??= this.queue.add(async () => {
      for (const release of [...this.resources]) await release();
      await this.sessions.clear();
      await this.#keeper?.release();
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The backend behind the public type; throws if it is something else, or closed. */
export function openBackend(fn: string, backend: unknown): OrtBackend {
  if (!(backend instanceof OrtBackend)) {
    throw new TypeError(`${fn}: backend: expected a backend made by createBackend() of this copy of tracegrad`);
  }
  if (backend.closed) throw new Error(`${fn}: the backend is closed`);
  return backend;
}
