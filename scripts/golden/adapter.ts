import { add, type Backend, type DType, gradients, mul, sum, type Tensor } from '../../src/index.js';
import type { Named, Optimizer } from '../../src/optim/index.js';
import { run, runSteps } from '../../test/support/run.js';
import { type Golden, type GoldenArray, type GoldenCase, isArray, isRecord } from './format.js';

export interface Context {
  readonly backend: Backend;
}

/**
 * Runs a case through the library and returns its outputs by name: arrays, numbers, and records and lists of them. What differs
 * from the file, is missing or is not in the file is a failure; so is an error.
 */
export type Adapter = (golden: GoldenCase, context: Context) => unknown;

/** The inputs of a case as arrays, checked against their names; a name that ends in `?` is optional. */
export function arrayInputs(inputs: GoldenCase['inputs'], names: readonly string[]): Record<string, GoldenArray> {
  const required = names.filter((name) => !name.endsWith('?'));
  const missing = required.find((name) => !(name in inputs));
  if (missing !== undefined) throw new Error(`golden: the case has no input '${missing}'`);
  return Object.fromEntries(
    Object.entries(inputs).map(([name, value]) => {
      if (!required.includes(name) && !names.includes(`${name}?`)) throw new Error(`golden: the adapter does not know the input '${name}'`);
      if (!isArray(value)) throw new Error(`golden: the input '${name}' is no array`);
      return [name, value];
    }),
  );
}

const without = (record: Named, names: readonly string[]): Named =>
  Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name)));

const PREFIX = 'grad_';

/**
 * Runs a function of named Tensors and the gradients that the case lists as `grad_<input>`. Differentiated is the sum of the
 * outputs times the cotangents, which are the inputs `grad_<output>`; without any the sum of `loss`.
 */
async function runWithGradients(
  golden: GoldenCase,
  { backend }: Context,
  names: readonly string[],
  forward: (x: Named, cotangents: Named) => Named,
) {
  const cotangentNames = Object.keys(golden.inputs).filter((name) => name.startsWith(PREFIX));
  const given = arrayInputs(golden.inputs, [...names, ...cotangentNames]);
  const wanted = Object.keys(golden.outputs).filter((name) => name.startsWith(PREFIX) && name.slice(PREFIX.length) in given);
  return run(
    backend,
    (tensors: Record<string, Tensor>) => {
      const x = without(tensors, cotangentNames);
      const outputs = forward(x, Object.fromEntries(cotangentNames.map((name) => [name, tensors[name] as Tensor])));
      if (wanted.length === 0) return { ...outputs };
      const terms = cotangentNames.map((name) => {
        const [y, g] = [outputs[name.slice(PREFIX.length)], tensors[name]];
        if (y?.shape.join() !== g?.shape.join()) throw new Error(`golden: '${name}' does not have the shape of that output`);
        return sum(mul(y as Tensor, g as Tensor));
      });
      const total = terms.length > 0 ? terms.reduce((a, b) => add(a, b)) : sum(outputs.loss as Tensor);
      const back = gradients(
        total,
        wanted.map((name) => x[name.slice(PREFIX.length)] as Tensor),
      );
      return { ...outputs, ...Object.fromEntries(wanted.map((name, i) => [name, back[i] as Tensor])) };
    },
    given as Record<string, GoldenArray & { dtype: DType }>,
  );
}

/**
 * A loss: `fn(...inputs, options)`, which returns the loss or a record with more outputs.
 *
 * @param names the inputs in order; optional ones (`mask?`) are passed among the options
 */
export function loss(fn: (...args: never[]) => Tensor | Named, names: readonly string[]): Adapter {
  const positional = names.filter((name) => !name.endsWith('?'));
  return (golden, context) =>
    runWithGradients(golden, context, names, (x) => {
      const result = (fn as (...args: unknown[]) => Tensor | Named)(...positional.map((name) => x[name]), {
        ...golden.options,
        ...without(x, positional),
      });
      return 'node' in result ? { loss: result as Tensor } : (result as Named);
    });
}

/**
 * A layer: a function of its named inputs (`x`, `weight`, ...), the options of the case and the cotangents (`grad_y`), which returns named
 * outputs.
 *
 * @param names the inputs, which may depend on the case; optional ones end in `?`
 * @param extra outputs that are left out where the case does not list them
 */
export const layer =
  (
    fn: (x: Named, options: Readonly<Record<string, unknown>>, cotangents: Named) => Named,
    names: readonly string[] | ((golden: GoldenCase) => readonly string[]),
    extra: readonly string[] = [],
  ): Adapter =>
  (golden, context) =>
    runWithGradients(golden, context, typeof names === 'function' ? names(golden) : names, (x, cotangents) => {
      const outputs = fn(x, golden.options, cotangents);
      return without(
        outputs,
        extra.filter((name) => !(name in golden.outputs)),
      );
    });

/** A record of arrays; null stands for a parameter without a gradient. */
function namedArrays(value: Golden | undefined): Record<string, GoldenArray> {
  const present = Object.entries(value as Readonly<Record<string, Golden>>).filter(([, array]) => array !== null);
  return arrayInputs(
    Object.fromEntries(present),
    present.map(([name]) => name),
  );
}

/** State after one step as the files have it: our one count of steps stands for one per parameter, or for none. */
function stateLike(expected: unknown, state: Readonly<Record<string, unknown>>): unknown {
  const { step, ...slots } = state;
  const counts = Object.keys(isRecord(expected) ? expected : {}).filter((name) => name === 'step' || name.startsWith('step.'));
  return { ...slots, ...Object.fromEntries(counts.map((name) => [name, step])) };
}

/** An optimizer, run step by step; `options.learningRate` may be a list with one rate per step. */
export const optimizer =
  (create: (options: never) => Optimizer): Adapter =>
  async ({ options, inputs, outputs }, { backend }) => {
    const { params, grads, ...others } = inputs;
    if (Object.keys(others).length > 0) throw new Error(`golden: the adapter does not know the input '${Object.keys(others)[0]}'`);
    const { learningRate: rate } = options;
    const learningRate = Array.isArray(rate) ? (step: number) => rate[step] as number : rate;
    const made = create({ ...options, ...('learningRate' in options ? { learningRate } : {}) } as never);
    const steps = await runSteps(backend, made, namedArrays(params), (grads as Golden[]).map(namedArrays));
    return {
      params: steps.map((after) => after.params),
      ...(outputs.state === undefined ? {} : { state: steps.map((after, i) => stateLike((outputs.state as Golden[])[i], after.state)) }),
    };
  };
