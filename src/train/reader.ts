import type { NDArray } from '../core/array.js';
import { mapRecord } from '../core/tree.js';
import type { OrtBackend } from '../runtime/backend.js';
import { Program, toArray } from '../runtime/program.js';
import { type Arrays, leavesOf, type Values } from './engine.js';

/** Copies values to the host. */
export class Reader {
  readonly #program: Program<null, null>;

  constructor(readonly device: OrtBackend) {
    this.#program = new Program<null, null>('trainer', device, (leaves) => ({ outputs: leaves, meta: null }));
  }

  /** To be called from within the backend's queue. */
  async read(values: Values): Promise<Arrays> {
    const list = Object.values(values);
    if (list.every(({ tensor }) => tensor.location === 'cpu')) {
      return mapRecord(values, (value) => ({ ...toArray(value), data: toArray(value).data.slice() }));
    }
    // A tensor on the device of onnxruntime-node cannot be read; what a run copies can.
    const { outputs } = await this.#program.run(leavesOf('value', values), list, { step: 0, seed: 0 }, null);
    const arrays = outputs.values();
    return mapRecord(values, () => toArray(arrays.next().value as (typeof outputs)[number]) as NDArray);
  }

  async release(): Promise<void> {
    await this.#program.release();
  }
}
