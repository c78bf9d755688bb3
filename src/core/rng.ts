import { checkNumber, wrongType } from './errors.js';

/** A splittable 64-bit key, as two unsigned 32-bit words. */
export type RngKey = readonly [number, number];

const rotate = (x: number, by: number): number => (x << by) | (x >>> (32 - by));

/** Threefry-2x32 with 20 rounds (Random123): two words scrambled by a key. */
function threefry([k0, k1]: RngKey, c0: number, c1: number): [number, number] {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda] as const;
  let x0 = (c0 + k0) | 0;
  let x1 = (c1 + k1) | 0;
  for (let group = 0; group < 5; group++) {
    for (const by of group % 2 === 0 ? [13, 15, 26, 6] : [17, 29, 16, 24]) {
      x0 = (x0 + x1) | 0;
      x1 = rotate(x1, by) ^ x0;
    }
    x0 = (x0 + (keys[(group + 1) % 3] as number)) | 0;
    x1 = (x1 + (keys[(group + 2) % 3] as number) + group + 1) | 0;
  }
  return [x0 >>> 0, x1 >>> 0];
}

const words = (value: number): [number, number] => [Math.floor(value / 2 ** 32), value >>> 0];

export const checkSeed = (fn: string, argument: string, value: unknown): void =>
  checkNumber(fn, argument, value, 'an integer from 0 to 2^53 - 1', (n) => Number.isSafeInteger(n) && n >= 0);

const isWord = (word: unknown): boolean => Number.isInteger(word) && (word as number) >>> 0 === word;

function checkKey(fn: string, key: unknown): asserts key is RngKey {
  if (!Array.isArray(key) || key.length !== 2 || !key.every(isWord)) throw wrongType(fn, 'key', 'two unsigned 32-bit integers', key);
}

/** The key of a seed, an integer from 0 to 2^53 - 1. */
export function keyFromSeed(seed: number): RngKey {
  checkSeed('keyFromSeed', 'seed', seed);
  return words(seed);
}

/** A new key from a key and an integer from 0 to 2^53 - 1; keys of different integers are independent. */
export function foldIn(key: RngKey, data: number): RngKey {
  checkKey('foldIn', key);
  checkSeed('foldIn', 'data', data);
  return threefry(key, ...words(data));
}

/** Where a stream of random numbers stands: four unsigned 32-bit words. */
export type RngState = readonly [number, number, number, number];

/** A stream of random numbers. The same key gives the same stream everywhere. */
export interface Rng {
  /** The key the stream was made from; fold integers into it for independent streams. */
  readonly key: RngKey;
  /** An unsigned 32-bit integer. */
  u32(): number;
  /** Uniform in [0, 1), 32 random bits. */
  float(): number;
  /** Uniform in [0, 1), 53 random bits. */
  float53(): number;
  /** A uniform integer in [0, n), 1 <= n <= 2^32. */
  int(n: number): number;
  /** Standard normal. */
  normal(): number;
  /** Shuffles in place and returns the list. */
  shuffle<T extends { length: number; [index: number]: unknown }>(list: T): T;
  /** Where the stream stands; {@link createRng} continues from there. */
  state(): RngState;
}

/**
 * A stream of random numbers from a seed or a key: xoshiro128** keyed by Threefry-2x32. Bit-identical on every platform.
 *
 * @param seed an integer from 0 to 2^53 - 1, or a key
 * @param state continues a stream where `state()` of it stood. The key stays that of `seed`. Default: the start of the stream
 * @example
 * ```ts
 * import { createRng } from 'tracegrad';
 *
 * const order = createRng(7).shuffle(Array.from({ length: 100 }, (_, i) => i));
 * ```
 */
export function createRng(seed: number | RngKey, state?: RngState): Rng {
  const key = typeof seed === 'number' ? keyFromSeed(seed) : seed;
  checkKey('createRng', key);
  if (state !== undefined && !(Array.isArray(state) && state.length === 4 && state.every(isWord) && state.some((word) => word !== 0))) {
    throw wrongType('createRng', 'state', 'four unsigned 32-bit integers, not all of them 0', state);
  }
  let [a, b, c, d] = state ?? [...threefry(key, 0xffffffff, 0), ...threefry(key, 0xffffffff, 1)];
  if ((a | b | c | d) === 0) a = 1;
  const u32 = (): number => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9);
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotate(d, 11);
    return result >>> 0;
  };
  const int = (n: number): number => {
    checkNumber('Rng.int', 'n', n, 'an integer from 1 to 2^32', (m) => Number.isInteger(m) && m >= 1 && m <= 2 ** 32);
    const limit = 2 ** 32 - (2 ** 32 % n);
    let draw = u32();
    while (draw >= limit) draw = u32();
    return draw % n;
  };
  const float53 = (): number => ((u32() >>> 5) * 2 ** 26 + (u32() >>> 6)) / 2 ** 53;
  return {
    key,
    u32,
    float: () => u32() * 2 ** -32,
    float53,
    int,
    // Box and Muller; one draw of the pair is dropped, so that the state of the stream is its four words.
    normal: () => Math.sqrt(-2 * Math.log(1 - float53())) * Math.cos(2 * Math.PI * float53()),
    shuffle: (list) => {
      for (let i = list.length - 1; i > 0; i--) {
        const j = int(i + 1);
        [list[i], list[j]] = [list[j], list[i]];
      }
      return list;
    },
    state: () => [a >>> 0, b >>> 0, c >>> 0, d >>> 0],
  };
}

/** The numbers 0, 1, ..., `n - 1` in random order. */
export function permutation(n: number, rng: Rng): Uint32Array {
  checkNumber('permutation', 'n', n, 'an integer from 0 to 2^32 - 1', isWord);
  return rng.shuffle(Uint32Array.from({ length: n }, (_, i) => i));
}
