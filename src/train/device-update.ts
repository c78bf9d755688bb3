import { ones } from '../core/ops/constant.js';
import type { Named } from '../optim/gradients.js';
import type { OrtBackend } from '../runtime/backend.js';
import { arrayLeaves, withTensors } from '../runtime/edge.js';
import type { RunContext } from '../runtime/host-inputs.js';
import { toValue } from '../runtime/program.js';
import { DeviceEngine } from './device-engine.js';
import type { Arrays, Holdings, Updater, Values } from './engine.js';
import type { Reader } from './reader.js';
import type { GradientTracer, UpdateJob } from './step-trace.js';

/** Updates on a device with memory of its own: steps whose batch is the gradients. */
export class DeviceUpdate implements Updater {
  readonly #engine: DeviceEngine;

  constructor(
    private readonly device: OrtBackend,
    job: UpdateJob,
    reader: Reader,
    holdings: Holdings<Arrays>,
  ) {
    const trace: GradientTracer = ({ state }, batch, { tree }) => {
      const { gradients, ...extra } = withTensors(tree, batch.values()) as { gradients: Named; [name: string]: Named };
      const packed = ones([1]);
      return { packed, reported: packed, places: [], perSample: undefined, state, gradients, extra };
    };
    this.#engine = new DeviceEngine('update.step', device, job, trace, reader, holdings);
  }

  get values(): Holdings<Values> {
    return this.#engine.values;
  }

  async update(gradients: Arrays, extra: Readonly<Record<string, Arrays>>, context: RunContext): Promise<void> {
    const tree = { ...extra, gradients };
    const leaves = arrayLeaves('update.step', 'batch', tree);
    const values = leaves.map(({ array }) => toValue(this.device.ort, array));
    await this.#engine.step({ tree, leaves, values, masked: false }, context, async () => {});
  }

  write(arrays: Holdings<Arrays>): void {
    this.#engine.write(arrays);
  }

  release(): Promise<void> {
    return this.#engine.release();
  }
}
