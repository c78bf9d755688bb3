import { array, type NDArray } from '../../src/index.js';
import type { Snapshot, Snapshotable } from '../../src/train/index.js';
import { checkEntries } from '../../src/train/snapshot.js';

/** What a small model with batch norm would have, trained with Adam for seven steps. */
export const example = (): Snapshot => ({
  step: 7,
  seed: 2 ** 53 - 1,
  params: {
    'head.weight': array([
      [1, 2, 3],
      [4, 5, 6],
    ]),
    'head.bias': array([0.5, -0.5]),
    'norm.scale': array([1, 0.1], { dtype: 'float16' }),
  },
  optimizer: {
    step: array(7),
    'm.head.bias': array([0.25, -0]),
    'v.head.bias': array([1e-30, Number.POSITIVE_INFINITY]),
  },
  state: { 'norm.mean': array([0.5]), 'norm.count': array(3, { dtype: 'int32' }), 'norm.seen': array([true, false]) },
});

/** A copy with zeros in place of all numbers: another run of the same program, at its start. */
export function blank({ params, optimizer, state }: Snapshot): Snapshot {
  const zeros = (arrays: Readonly<Record<string, NDArray>>) =>
    Object.fromEntries(Object.entries(arrays).map(([name, value]) => [name, { ...value, data: value.data.slice().fill(0) }]));
  return { step: 0, seed: 0, params: zeros(params), optimizer: zeros(optimizer), state: zeros(state) };
}

/** Holds a snapshot and checks what it is given, as a trainer does. */
export class Holder implements Snapshotable {
  constructor(public current: Snapshot) {}

  snapshot(): Promise<Snapshot> {
    return Promise.resolve(this.current);
  }

  async restore(snapshot: Snapshot): Promise<void> {
    for (const section of ['params', 'optimizer', 'state'] as const) {
      checkEntries('restore', section, this.current[section], snapshot[section]);
    }
    this.current = snapshot;
  }
}
