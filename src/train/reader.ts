import { mapRecord } from '../core/tree.js';
import type { OrtBackend } from '../runtime/backend.js';
import { Program, toArray, type Value } from '../runtime/program.js';
import { type Arrays, copyOf, leavesOf, type Values } from './engine.js';

/** Copies values to the host. */
export class Reader {
  readonly #program: Program<null, null>;

  constructor(device: OrtBackend) {
    this.#program = new Program<null, null>('trainer', device, (leaves) => ({ outputs: leaves, meta: null }));
  }

  /** To be called from within the backend's queue. */
  async read(values: Values): Promise<Arrays> {
    const list = Object.values(values);
    if (list.every(({ tensor }) => tensor.location === 'cpu')) {
      return mapRecord(values, copyOf);
    }
    // A tensor on the device of onnxruntime-node cannot be read; what a run copies can.
    const { outputs } = await this.#program.run(leavesOf('value', values), list, { step: 0, seed: 0 }, null);
    const arrays = outputs.values();
    return mapRecord(values, () => toArray(arrays.next().value as Value));
  }

  async release(): Promise<void> {
    await this.#program.release();
  }
}
