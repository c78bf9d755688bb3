import type { OrtSession } from './ort.js';

interface Entry {
  readonly session: OrtSession;
  bytes: number;
  /** How many values that it left on the device are still there. */
  held: number;
}

/** Sessions by key, bounded by bytes: the least recently used are released. Used from within the run queue only. */
export class SessionCache {
  readonly #entries = new Map<object, Entry>(); // in order of use

  constructor(private readonly maxBytes: number) {}

  /** The session of `key`, made by `create` if it is not there. The one that is asked for is never evicted. */
  async get(key: object, bytes: number, create: () => Promise<OrtSession>): Promise<OrtSession> {
    const entry = this.#entries.get(key) ?? { session: await create(), bytes, held: 0 };
    entry.bytes = Math.max(entry.bytes, bytes);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    let total = [...this.#entries.values()].reduce((sum, item) => sum + item.bytes, 0);
    for (const [other, item] of this.#entries) {
      if (total <= this.maxBytes || other === key) break;
      if (item.held > 0) continue;
      total -= item.bytes;
      await this.release(other);
    }
    return entry.session;
  }

  /**
   * Says that values which the session of `key` left on the device have come (a positive number) or gone. It is not evicted while
   * there are any: their memory is the session's, and to dispose of them after it crashes the process.
   */
  hold(key: object, values: number): void {
    const entry = this.#entries.get(key);
    if (entry) entry.held += values;
  }

  async release(key: object): Promise<void> {
    const entry = this.#entries.get(key);
    this.#entries.delete(key);
    await entry?.session.release();
  }

  async clear(): Promise<void> {
    for (const key of [...this.#entries.keys()]) await this.release(key);
  }
}
