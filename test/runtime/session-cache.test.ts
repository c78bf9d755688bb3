import { describe, expect, it } from 'vitest';
import { array, compile, createRng, exp, mul, sum, type Tensor, toNumbers } from '../../src/index.js';
import { normal } from '../../src/layers/index.js';
import { createBackend } from '../../src/node.js';
import type { OrtSession } from '../../src/runtime/ort.js';
import { SessionCache } from '../../src/runtime/session-cache.js';
import { expectClose } from '../support/close.js';
import { countSessions } from '../support/sessions.js';

describe('SessionCache', () => {
  /** A cache with a log of what it creates (+) and releases (-). */
  function logged(maxBytes: number) {
    const cache = new SessionCache(maxBytes);
    const log: string[] = [];
    const keys: Record<string, object> = {};
    const keyOf = (name: string) => {
      keys[name] ??= {};
      return keys[name];
    };
    const get = (name: string, bytes: number) =>
      cache.get(keyOf(name), bytes, async () => {
        log.push(`+${name}`);
        return { run: async () => ({}), release: async () => void log.push(`-${name}`) } satisfies OrtSession;
      });
    return { cache, log, get, release: (name: string) => cache.release(keyOf(name)) };
  }

  it('creates a session once', async () => {
    const { log, get } = logged(100);
    const first = await get('a', 10);
    expect(await get('a', 10)).toBe(first);
    expect(log).toEqual(['+a']);
  });

  it('releases the least recently used when there are too many bytes', async () => {
    const { log, get } = logged(100);
    for (const name of ['a', 'b', 'a', 'c']) await get(name, 40);
    expect(log).toEqual(['+a', '+b', '+c', '-b']);
    await get('b', 40);
    expect(log.slice(4)).toEqual(['+b', '-a']);
    await get('d', 30);
    expect(log.slice(6)).toEqual(['+d', '-c']);
  });

  it('never releases the session that is asked for, however large', async () => {
    const { log, get } = logged(100);
    for (const name of ['a', 'b', 'a']) await get(name, 500);
    expect(log).toEqual(['+a', '+b', '-a', '+a', '-b']);
  });

  it('counts the largest run of a session', async () => {
    const { log, get } = logged(100);
    await get('a', 10);
    await get('b', 10);
    await get('a', 95);
    expect(log).toEqual(['+a', '+b', '-b']);
    await get('a', 10);
    await get('b', 10);
    expect(log.slice(3)).toEqual(['+b', '-a']);
  });

  it('releases one or all', async () => {
    const { cache, log, get, release } = logged(100);
    for (const name of ['a', 'b', 'c']) await get(name, 10);
    await release('b');
    await release('b');
    await cache.clear();
    await cache.clear();
    expect(log).toEqual(['+a', '+b', '+c', '-b', '-a', '-c']);
  });

  it('tries again what could not be created', async () => {
    const cache = new SessionCache(100);
    const key = {};
    const session: OrtSession = { run: async () => ({}), release: async () => undefined };
    await expect(cache.get(key, 10, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await cache.get(key, 10, async () => session)).toBe(session);
  });
});

describe('sessions of a backend', () => {
  const energy = (x: Tensor) => ({ y: exp(mul(x, 0.1)), total: sum(mul(x, x)) });
  const rng = createRng(5);
  const inputs = Array.from({ length: 12 }, (_, i) => normal(rng, [4, 1000 + i]));

  it('are bounded by bytes, and made again when they are needed again', async () => {
    // A run of this function holds about 50 kB: room for three of them.
    const backend = await createBackend({ device: 'cpu', cacheBytes: 150_000 });
    const sessions = countSessions(backend);
    const compiled = compile(backend, energy);
    const first = [];
    for (const x of inputs) first.push(await compiled(x));
    expect(sessions.created).toBe(12);
    expect(sessions.released).toBeGreaterThanOrEqual(8);
    expect(sessions.released).toBeLessThanOrEqual(10);
    for (const [i, x] of inputs.entries()) {
      const again = await compiled(x);
      expect(again).toEqual(first[i]);
      expectClose(
        `y of ${i}`,
        toNumbers(again.y),
        toNumbers(x).map((v) => Math.exp(v / 10)),
        1e-6,
      );
    }
    expect(sessions.created).toBe(24);
    await backend.close();
    expect(sessions.released).toBe(24);
  });

  it('are kept while there is room', async () => {
    const backend = await createBackend({ device: 'cpu' });
    const sessions = countSessions(backend);
    const compiled = compile(backend, energy);
    for (const x of [...inputs, ...inputs]) await compiled(x);
    expect(sessions).toEqual({ created: 12, released: 0 });
    await backend.close();
  });

  it('are released by close() of the function, and the rest by close() of the backend', async () => {
    const backend = await createBackend({ device: 'cpu' });
    const sessions = countSessions(backend);
    const [one, other] = [compile(backend, energy), compile(backend, energy)];
    for (const x of inputs.slice(0, 3)) await Promise.all([one(x), other(x)]);
    await one.close();
    await one.close();
    expect(sessions).toEqual({ created: 6, released: 3 });
    expect((await other(array([[1, 2]]))).total.data[0]).toBe(5);
    await backend.close();
    await backend.close();
    await other.close();
    expect(sessions).toEqual({ created: 7, released: 7 });
  });
});
