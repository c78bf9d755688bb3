import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isFloat } from '../../src/core/dtype.js';
import { inputLeaf } from '../../src/core/leaf.js';
import { sizeOf } from '../../src/core/shape.js';
import { isTensor } from '../../src/core/tensor.js';
import * as tracegrad from '../../src/index.js';
import {
  add,
  array,
  type Backend,
  cast,
  compile,
  constant,
  createRng,
  gradients,
  mul,
  type NDArray,
  type Rng,
  sum,
  type Tensor,
  toNumbers,
} from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import { expectClose } from './close.js';
import { webgpuBackend } from './devices.js';
import { checkGradient } from './differences.js';
import { type Argument, drawAll } from './draw.js';
import { evaluate, fromArray } from './reference.js';

export interface OpOptions {
  /** How many derivatives are checked. Default 2; 0 where arguments or results are not float. */
  order?: 0 | 1 | 2;
  /** Relative tolerance of values in float32 on the CPU. Default 1e-5; derivatives are allowed 10 times as much. */
  rtol?: number;
  /** Relative tolerance of everything on WebGPU, default 1e-4; false where the op does not run there. */
  webgpu?: number | false;
}

/** A row of a table of tests. The first word of its name is the function under test. */
export interface OpCase extends OpOptions {
  readonly name: string;
  readonly inputs: readonly Argument[];
  readonly run: (...x: Tensor[]) => Tensor | readonly Tensor[];
}

/** A row: name, arguments, function. */
export const op = (name: string, inputs: readonly Argument[], run: OpCase['run'], options: OpOptions = {}): OpCase => ({
  name,
  inputs,
  run,
  ...options,
});

/** What random numbers are for: every purpose has its own stream in every case, the same in every run. */
const purposes = { inputs: 0, weights: 1, samples: 2 };

const rngOf = ({ name }: OpCase, purpose: keyof typeof purposes): Rng =>
  createRng([purposes[purpose], [...name].reduce((hash, letter) => (hash * 31 + letter.charCodeAt(0)) >>> 0, 7)]);

const drawn = (c: OpCase): NDArray[] => drawAll(c.inputs, rngOf(c, 'inputs'));

const floats = (tensors: readonly Tensor[]): Tensor[] => tensors.filter((x) => isFloat(x.dtype));

const total = (terms: readonly Tensor[]): Tensor => terms.reduce((a, b) => add(a, b));

/** A scalar that depends on every float element of `tensors` with a weight of its own. */
function weighted(tensors: readonly Tensor[], rng: Rng): Tensor {
  const weightsOf = ({ shape }: Tensor) => constant(array(Float32Array.from({ length: sizeOf(shape) }, rng.normal), { shape }));
  return total(floats(tensors).map((x) => sum(mul(cast(x, 'float32'), weightsOf(x)))));
}

/** A case, traced. */
interface Traced {
  /** The values; the gradient of a weighted sum of them; the gradient of a weighted sum of that. */
  readonly levels: readonly (readonly Tensor[])[];
  /** The weighted sums. */
  readonly losses: readonly Tensor[];
}

/** Traces a case and up to `limit` derivatives. */
function trace(c: OpCase, leaves: readonly Tensor[], limit: number): Traced {
  const result = c.run(...leaves);
  const levels: (readonly Tensor[])[] = [isTensor(result) ? [result] : result];
  const losses: Tensor[] = [];
  const wrt = floats(leaves);
  const rng = rngOf(c, 'weights');
  for (let order = Math.min(c.order ?? 2, limit); order > 0; order--) {
    const level = levels.at(-1) as readonly Tensor[];
    if (wrt.length === 0 || floats(level).length === 0) break;
    const loss = weighted(level, rng);
    losses.push(loss);
    levels.push(gradients(loss, wrt));
  }
  return { levels, losses };
}

/** A case on leaves of its own, with values, for the reference. */
function prepare(c: OpCase) {
  const leaves = c.inputs.map((spec, i) => inputLeaf(spec, `x${i}`));
  const values = new Map(drawn(c).map((value, i) => [leaves[i] as Tensor, fromArray(value)]));
  return { leaves, values, ...trace(c, leaves, 2) };
}

/** Compares all derivatives of a case with differences. */
function checkDerivatives(c: OpCase): void {
  const { leaves, values, levels, losses } = prepare(c);
  const wrt = floats(leaves);
  const rng = rngOf(c, 'samples');
  losses.forEach((loss, i) => {
    checkGradient(loss, levels[i + 1] as readonly Tensor[], wrt, values, rng);
  });
  if (losses.length === 0) return;
  // The cotangent of a plain sum is a broadcast scalar, which ops may treat in other ways.
  const plain = total(floats(levels[0] as readonly Tensor[]).map((y) => sum(y)));
  checkGradient(plain, gradients(plain, wrt), wrt, values, rng);
}

/** Numbers level by level, output by output. */
type Results = readonly (readonly (readonly number[])[])[];

/** Values and derivatives of a case by the reference. */
function expected(c: OpCase): Results {
  const { levels, values } = prepare(c);
  return levels.map((level) => evaluate(level, values).map(({ data }) => [...data]));
}

/** Values and derivatives of many cases, in one compiled function. */
async function runTogether(backend: Backend, cases: readonly OpCase[], limit: number): Promise<Results[]> {
  const everything = (inputs: Tensor[][]) => cases.map((c, i) => trace(c, inputs[i] as Tensor[], limit).levels.map((level) => [...level]));
  const compiled = compile(backend, everything);
  try {
    const results = await compiled(cases.map(drawn));
    return results.map((levels) => levels.map((level) => level.map(toNumbers)));
  } finally {
    await compiled.close();
  }
}

type ByCase = Map<OpCase, Results | Error>;

/** Results by case. Where one fails they run one by one, so that the errors stand where they belong. */
async function runAll(backend: Backend, cases: readonly OpCase[], limit: number): Promise<ByCase> {
  try {
    const together = await runTogether(backend, cases, limit);
    return new Map(cases.map((c, i) => [c, together[i] as Results]));
  } catch {
    const results: ByCase = new Map();
    for (const c of cases) {
      const alone = runTogether(backend, [c], limit);
      results.set(c, await alone.then(([result]) => result as Results).catch((error: Error) => error));
    }
    return results;
  }
}

const LEVELS = ['value', 'gradient', 'second derivative'];

function compare(actual: Results | Error | undefined, wanted: Results, rtol: (level: number) => number): void {
  if (!actual || actual instanceof Error) throw actual ?? new Error('there is no result');
  for (const [k, level] of actual.entries()) {
    expect(level.length).toBe(wanted[k]?.length);
    for (const [i, numbers] of level.entries()) expectClose(`${LEVELS[k]} ${i}`, numbers, wanted[k]?.[i] ?? [], rtol(k));
  }
}

/** Elements that some Tensor of a large case has. */
const LARGE = 1e5;

const TIMEOUT = 120_000;

/**
 * Tests a family of ops.
 *
 * Every row of `cases`: derivatives against central differences in float64; values and derivatives in float32 on the CPU, and values
 * and gradients on WebGPU, against float64. Every row of `large` (at least 10^5 elements): values and gradients on WebGPU
 * against the CPU. Every public function of the module must have a row in both.
 *
 * @param family the module under test
 */
export function testOps(family: Readonly<Record<string, unknown>>, cases: readonly OpCase[], large: readonly OpCase[]): void {
  const publicFunctions = Object.entries(tracegrad).filter(([name, value]) => typeof value === 'function' && family[name] === value);
  const onWebgpu = cases.filter((c) => c.webgpu !== false);
  const backends: Backend[] = [];
  let cpu: ByCase;
  let webgpu: ByCase | undefined;
  let largeOnCpu: ByCase;

  beforeAll(async () => {
    const device = await createBackend({ device: 'cpu' });
    const gpu = await webgpuBackend();
    backends.push(device, ...(gpu ? [gpu] : []));
    cpu = await runAll(device, cases, 2);
    if (!gpu) return;
    webgpu = await runAll(gpu, onWebgpu, 1);
    largeOnCpu = await runAll(device, large, 1);
    for (const [c, results] of await runAll(gpu, large, 1)) webgpu.set(c, results);
  }, TIMEOUT);

  afterAll(async () => {
    for (const backend of backends) await backend.close();
  });

  it('has rows for every function', () => {
    for (const rows of [cases, large]) {
      const names = rows.map(({ name }) => name);
      const tested = new Set(names.map((name) => name.split(' ')[0]));
      expect(publicFunctions.map(([name]) => name).filter((name) => !tested.has(name))).toEqual([]);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  describe('in float64', () => {
    for (const c of cases) it(c.name, () => checkDerivatives(c));
  });

  describe('on the CPU', () => {
    for (const c of cases) {
      const { rtol = 1e-5 } = c;
      it(c.name, () => compare(cpu.get(c), expected(c), (level) => (level === 0 ? rtol : 10 * rtol)));
    }
  });

  describe.skipIf(onWebgpu.length + large.length === 0)('on WebGPU', () => {
    for (const c of [...onWebgpu, ...large]) {
      const isLarge = large.includes(c);
      it(isLarge ? `large: ${c.name}` : c.name, ({ skip }) => {
        if (!webgpu) return skip('there is no device');
        const wanted = isLarge ? largeOnCpu.get(c) : expected(c);
        if (!wanted || wanted instanceof Error) throw wanted ?? new Error('there is no result of the CPU');
        if (isLarge) {
          const sizes = [...c.inputs.map(({ shape }) => sizeOf(shape)), ...wanted.flat().map((numbers) => numbers.length)];
          expect(Math.max(...sizes)).toBeGreaterThanOrEqual(LARGE);
        }
        compare(webgpu.get(c), wanted, () => c.webgpu || 1e-4);
      });
    }
  });
}
