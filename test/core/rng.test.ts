import { describe, expect, it } from 'vitest';
import { createRng, foldIn, keyFromSeed, permutation, type Rng, type RngKey } from '../../src/index.js';

const draws = <T>(count: number, draw: () => T): T[] => Array.from({ length: count }, draw);

/** Threefry-2x32 with 20 rounds, written down once more, on 64-bit integers. */
function threefry([k0, k1]: RngKey, [c0, c1]: RngKey): RngKey {
  const wrap = (x: bigint) => x & 0xffffffffn;
  const keys = [k0, k1, (k0 ^ k1 ^ 0x1bd11bda) >>> 0].map(BigInt) as [bigint, bigint, bigint];
  const rotations = [13n, 15n, 26n, 6n, 17n, 29n, 16n, 24n] as const;
  let [x, y] = [wrap(BigInt(c0) + keys[0]), wrap(BigInt(c1) + keys[1])];
  for (let round = 0; round < 20; round++) {
    const by = rotations[round % 8] as bigint;
    x = wrap(x + y);
    y = wrap((y << by) | (y >> (32n - by))) ^ x;
    if (round % 4 !== 3) continue;
    const injection = (round + 1) / 4;
    x = wrap(x + (keys[injection % 3] as bigint));
    y = wrap(y + (keys[(injection + 1) % 3] as bigint) + BigInt(injection));
  }
  return [Number(x), Number(y)];
}

describe('keys', () => {
  // The known answers of Random123 (kat_vectors) for threefry2x32, 20 rounds: key, counter, result.
  it.each<[RngKey, RngKey, RngKey]>([
    [
      [0, 0],
      [0, 0],
      [0x6b200159, 0x99ba4efe],
    ],
    [
      [0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x1cb996fc, 0xbb002be7],
    ],
    [
      [0x13198a2e, 0x03707344],
      [0x243f6a88, 0x85a308d3],
      [0xc4923a9c, 0x483df7a0],
    ],
  ])('are checked against a Threefry that gives the known answer of key %j, counter %j', (key, counter, answer) => {
    expect(threefry(key, counter)).toEqual(answer);
  });

  it.each([0, 1, 3, 2 ** 32 - 1, 2 ** 32, 0x1f3f6a8885a308, 2 ** 53 - 1])('fold in %i by Threefry', (data) => {
    for (const key of [
      [0, 0],
      [0, 42],
      [0xffffffff, 0xffffffff],
      [0x13198a2e, 0x03707344],
    ] as const) {
      expect(foldIn(key, data)).toEqual(threefry(key, [Math.floor(data / 2 ** 32), data % 2 ** 32]));
    }
  });

  it('start streams by Threefry', () => {
    const key = [0x13198a2e, 0x03707344] as const;
    expect(createRng(key).state()).toEqual([...threefry(key, [0xffffffff, 0]), ...threefry(key, [0xffffffff, 1])]);
  });

  it('come from seeds of 53 bits', () => {
    expect(keyFromSeed(42)).toEqual([0, 42]);
    expect(keyFromSeed(2 ** 53 - 1)).toEqual([0x1fffff, 0xffffffff]);
    expect(foldIn(foldIn(keyFromSeed(2 ** 53 - 1), 1), 2)).toEqual([177981614, 2796543074]);
  });

  it.each([-1, 0.5, 2 ** 53, Number.NaN])('refuse the seed %d', (seed) => {
    expect(() => keyFromSeed(seed)).toThrow(RangeError);
    expect(() => foldIn([0, 0], seed)).toThrow(`foldIn: data: expected an integer from 0 to 2^53 - 1, received ${seed}`);
  });

  it('refuse what is no number', () => {
    expect(() => keyFromSeed('1' as unknown as number)).toThrow(
      new TypeError("keyFromSeed: seed: expected an integer from 0 to 2^53 - 1, received '1'"),
    );
  });
});

/** Reference sequences: key; state; 8 x u32, 3 x float, 2 x float53, and int for each bound, drawn in this order; a shuffle. */
const golden = [
  {
    rng: () => createRng(0),
    key: [0, 0],
    state: [3520496301, 2513315811, 1065179034, 1741568792],
    u32: [2659284902, 1977066452, 2964941873, 3062622582, 2357927259, 3594469328, 2337393767, 3949270756],
    after: [4151664028, 990238349, 54525920, 1783834156],
    float: [0.013113329885527492, 0.4835080332122743, 0.25033546797931194],
    float53: [0.467294280291668, 0.7268200342843781],
    int: [0, 0, 1, 6, 176, 560652996, 1306852015],
    shuffled: [0, 8, 7, 4, 6, 3, 5, 1, 9, 2],
  },
  {
    rng: () => createRng(42),
    key: [0, 42],
    state: [4131052425, 2394864406, 3235020614, 105198797],
    u32: [3278992004, 2446103852, 1537834336, 1159387588, 2958218998, 99135500, 443373839, 407213154],
    after: [3176783747, 4117298398, 2180683857, 3841723981],
    float: [0.7274402708280832, 0.40601457469165325, 0.12363612372428179],
    float53: [0.19046343133440735, 0.7128616629583902],
    int: [0, 1, 2, 3, 649, 1147255839, 1473078115],
    shuffled: [5, 16, 14, 9, 6, 11, 3, 0, 13, 4, 15, 8, 7, 2, 1, 12, 10],
  },
  {
    rng: () => createRng(foldIn(foldIn(keyFromSeed(2 ** 53 - 1), 1), 2)),
    key: [177981614, 2796543074],
    state: [1898334054, 202579352, 2852784214, 3276586116],
    u32: [2920930574, 281265386, 812343554, 688390378, 708011434, 2059789295, 1132134995, 4046640471],
    after: [3754081512, 3572127680, 3131449716, 1541546458],
    float: [0.5965328635647893, 0.04994345153681934, 0.5783829430583864],
    float53: [0.9751454784650091, 0.6614972981772614],
    int: [0, 1, 2, 9, 143, 1617332844, 3568169186],
    shuffled: undefined,
  },
];

const bounds = [1, 2, 3, 10, 1000, 3000000000, 2 ** 32];

describe('createRng', () => {
  it.each(golden)('draws the reference sequence of key $key', ({ rng: make, key, state, u32, after, float, float53, int, shuffled }) => {
    const rng = make();
    expect(rng.key).toEqual(key);
    expect(rng.state()).toEqual(state);
    expect(draws(8, rng.u32)).toEqual(u32);
    expect(rng.state()).toEqual(after);
    expect(draws(3, rng.float)).toEqual(float);
    expect(draws(2, rng.float53)).toEqual(float53);
    expect(bounds.map((n) => rng.int(n))).toEqual(int);
    if (shuffled) expect(make().shuffle(Array.from(shuffled.keys()))).toEqual(shuffled);
    if (shuffled) expect([...permutation(shuffled.length, make())]).toEqual(shuffled);
  });

  /** xoshiro128**, written down once more, on 64-bit integers. */
  function xoshiro(state: readonly number[]): () => number {
    const mask = 0xffffffffn;
    const rotate = (x: bigint, by: bigint) => ((x << by) | (x >> (32n - by))) & mask;
    let [a, b, c, d] = state.map(BigInt) as [bigint, bigint, bigint, bigint];
    return () => {
      const result = (rotate((b * 5n) & mask, 7n) * 9n) & mask;
      const shifted = (b << 9n) & mask;
      c ^= a;
      d ^= b;
      b ^= c;
      a ^= d;
      c ^= shifted;
      d = rotate(d, 11n);
      return Number(result);
    };
  }

  it('is xoshiro128**', () => {
    // The published sequence, which shows that the one above is right.
    expect(draws(4, xoshiro([1, 2, 3, 4]))).toEqual([11520, 0, 5927040, 70819200]);
    const rng = createRng(123);
    const next = xoshiro(rng.state());
    expect(draws(1000, rng.u32)).toEqual(draws(1000, next));
  });

  it('continues a stream from its state', () => {
    const rng = createRng(7);
    rng.normal();
    const copy = createRng(7, rng.state());
    expect(copy.key).toEqual(rng.key);
    expect(draws(20, copy.u32)).toEqual(draws(20, rng.u32));
    expect(copy.state()).toEqual(rng.state());
    // Words may come back from JSON, and from the published sequence, which has no seed of ours.
    expect(draws(4, createRng(0, JSON.parse('[1,2,3,4]')).u32)).toEqual([11520, 0, 5927040, 70819200]);
  });

  const moments = (values: readonly number[]) => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const central = (power: number) => values.reduce((a, b) => a + (b - mean) ** power, 0) / values.length;
    const variance = central(2);
    return { mean, variance, skew: central(3) / variance ** 1.5, kurtosis: central(4) / variance ** 2 };
  };

  it('draws standard normal numbers', () => {
    const { mean, variance, skew, kurtosis } = moments(draws(200000, createRng(5).normal));
    // Four standard errors of each moment.
    expect(Math.abs(mean)).toBeLessThan(4 * Math.sqrt(1 / 200000));
    expect(Math.abs(variance - 1)).toBeLessThan(4 * Math.sqrt(2 / 200000));
    expect(Math.abs(skew)).toBeLessThan(4 * Math.sqrt(6 / 200000));
    expect(Math.abs(kurtosis - 3)).toBeLessThan(4 * Math.sqrt(24 / 200000));
  });

  it('draws uniform numbers', () => {
    const rng = createRng(6);
    for (const draw of [rng.float, rng.float53]) {
      const values = draws(100000, draw);
      expect(Math.min(...values.slice(0, 50000))).toBeGreaterThanOrEqual(0);
      expect(Math.max(...values.slice(0, 50000))).toBeLessThan(1);
      expect(Math.abs(moments(values).mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / 100000));
      expect(Math.abs(moments(values).variance - 1 / 12)).toBeLessThan(0.001);
    }
  });

  const chiSquare = (counts: readonly number[]) => {
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length;
    return counts.reduce((a, b) => a + (b - mean) ** 2 / mean, 0);
  };

  it('draws integers without bias', () => {
    const rng = createRng(8);
    const drawn = draws(70000, () => rng.int(7));
    const counts = Array.from({ length: 7 }, (_, k) => drawn.filter((x) => x === k).length);
    expect(counts.reduce((a, b) => a + b, 0)).toBe(70000);
    expect(chiSquare(counts)).toBeLessThan(22.5); // exceeded by chance once in 1000 times, at 6 degrees of freedom
    // 3/4 of the range: taking the remainder of every draw would give the lower third twice as often.
    const large = draws(30000, () => Math.floor(rng.int(3 * 2 ** 30) / 2 ** 30));
    expect(chiSquare([0, 1, 2].map((k) => large.filter((x) => x === k).length))).toBeLessThan(13.8); // 2 degrees
  });

  it('shuffles every order equally often, in place', () => {
    const rng = createRng(9);
    const list = [0, 1, 2];
    expect(rng.shuffle(list)).toBe(list);
    const orders = draws(12000, () => rng.shuffle([0, 1, 2]).join(''));
    const counts = ['012', '021', '102', '120', '201', '210'].map((order) => orders.filter((o) => o === order).length);
    expect(counts.reduce((a, b) => a + b, 0)).toBe(12000);
    expect(chiSquare(counts)).toBeLessThan(20.5); // 5 degrees
    expect([...rng.shuffle(Uint32Array.of(5, 6))].sort()).toEqual([5, 6]);
    expect(rng.shuffle([])).toEqual([]);
    expect(permutation(0, rng)).toEqual(new Uint32Array(0));
  });

  it('gives streams of other keys other numbers', () => {
    const first = (rng: Rng) => draws(4, rng.u32).join();
    const key = keyFromSeed(1);
    const streams = [
      createRng(1),
      createRng(2),
      createRng(foldIn(key, 0)),
      createRng(foldIn(key, 1)),
      createRng(foldIn(foldIn(key, 0), 0)),
    ];
    expect(new Set(streams.map(first)).size).toBe(streams.length);
    expect(first(createRng(1))).toBe(first(createRng(key)));
  });

  it.each([0, -1, 1.5, 2 ** 32 + 1])('refuses int(%d)', (n) => {
    expect(() => createRng(0).int(n)).toThrow(new RangeError(`Rng.int: n: expected an integer from 1 to 2^32, received ${n}`));
  });
});
