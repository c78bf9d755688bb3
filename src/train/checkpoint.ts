import type { NDArray } from '../core/array.js';
import { checkOptions, outOfRange, show } from '../core/errors.js';
import { toJson } from './json.js';
import { encodeSafetensors, readSafetensors } from './safetensors.js';
import { checkTrainer, type Snapshotable } from './snapshot.js';

export interface SaveOptions {
  /**
   * What else the loop needs to continue, such as the states of samplers and generators: null, booleans, finite numbers,
   * strings, and arrays and plain objects of them. {@link load} returns an equal value.
   */
  extra?: unknown;
}

const FORMAT = 'tracegrad-checkpoint';
const VERSION = '1';

/** The parts of a snapshot that are arrays; names of tensors begin with one of them. */
const sections = ['params', 'optimizer', 'state'] as const;

/**
 * A checkpoint: everything that a trainer needs to continue, as the bytes of a safetensors file.
 *
 * Tensors are called `params.<path>`, `optimizer.<slot>.<path>` and `state.<path>`; step, seed, a learning rate set by
 * hand and `extra` are in the metadata.
 *
 * @throws if `extra` is not JSON data; nothing in it is left out or changed silently
 * @example
 * ```ts
 * import type { Rng } from 'tracegrad';
 * import { writeFileAtomic } from 'tracegrad/node';
 * import { type Snapshotable, save } from 'tracegrad/train';
 *
 * const checkpoint = async (trainer: Snapshotable, epoch: number) =>
 *   writeFileAtomic('run.safetensors', await save(trainer, { extra: { epoch } }));
 * ```
 */
export async function save(trainer: Snapshotable, options: SaveOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
  const fn = 'save';
  checkTrainer(fn, trainer);
  checkOptions(fn, options, ['extra']);
  // Read now: what a loop calls extra goes on changing.
  const extra = options.extra === undefined ? {} : { extra: toJson(fn, 'extra', options.extra) };
  const snapshot = await trainer.snapshot();
  const tensors = sections.flatMap((section) =>
    Object.entries(snapshot[section]).map(([name, array]) => [`${section}.${name}`, array] as const),
  );
  return encodeSafetensors(Object.fromEntries(tensors), {
    format: FORMAT,
    version: VERSION,
    step: String(snapshot.step),
    seed: String(snapshot.seed),
    ...(snapshot.learningRate === undefined ? {} : { learningRate: String(snapshot.learningRate) }),
    ...extra,
  });
}

function parseCount(fn: string, metadata: Readonly<Record<string, string>>, key: string): number {
  const text = metadata[key];
  const count = Number(text);
  if (text === undefined || !/^\d+$/.test(text) || !Number.isSafeInteger(count)) {
    throw outOfRange(fn, `metadata '${key}'`, 'an integer from 0 to 2^53 - 1', text);
  }
  return count;
}

function parseExtra(fn: string, text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`${fn}: metadata 'extra': no JSON: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Restores what {@link save} saved. If anything is wrong, nothing has changed.
 *
 * @param trainer one with the same parameters, optimizer and model state; what it holds is replaced
 * @returns the `extra` of the checkpoint, undefined if it has none
 * @throws if the bytes are no checkpoint of a version that is known, or names, shapes or dtypes are not those of the trainer
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { load, type Snapshotable } from 'tracegrad/train';
 *
 * async function resume(trainer: Snapshotable) {
 *   const { epoch } = (await load(trainer, await readFile('run.safetensors'))) as { epoch: number };
 *   return epoch;
 * }
 * ```
 */
export async function load(trainer: Snapshotable, bytes: Uint8Array): Promise<unknown> {
  const fn = 'load';
  checkTrainer(fn, trainer);
  const { tensors, metadata } = readSafetensors(fn, bytes);
  const { format, version } = metadata;
  if (format !== FORMAT) {
    throw new Error(
      `${fn}: not a checkpoint: expected format '${FORMAT}' in the metadata, received ${show(format)}; loadWeights() loads weights that others wrote`,
    );
  }
  if (version !== VERSION) throw new Error(`${fn}: a checkpoint of version ${show(version)}; this tracegrad reads '${VERSION}'`);
  const arrays: Record<(typeof sections)[number], [string, NDArray][]> = { params: [], optimizer: [], state: [] };
  for (const [name, array] of Object.entries(tensors)) {
    const section = sections.find((prefix) => name.startsWith(`${prefix}.`));
    if (!section) throw outOfRange(fn, 'a tensor', `a name that begins with ${sections.map((s) => `'${s}.'`).join(', ')}`, name);
    arrays[section].push([name.slice(section.length + 1), array]);
  }
  const extra = parseExtra(fn, metadata.extra);
  await trainer.restore({
    step: parseCount(fn, metadata, 'step'),
    seed: parseCount(fn, metadata, 'seed'),
    // What is no rate is refused by restore(), like any other bad entry.
    ...(metadata.learningRate === undefined ? {} : { learningRate: Number(metadata.learningRate) }),
    params: Object.fromEntries(arrays.params),
    optimizer: Object.fromEntries(arrays.optimizer),
    state: Object.fromEntries(arrays.state),
  });
  return extra;
}
