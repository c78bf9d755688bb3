import { together, waitFor } from '../core/checkpoint.js';
import { type CustomVjpRule, customVjp } from '../core/custom-vjp.js';
import { checkParams, outOfRange, show, wrongType } from '../core/errors.js';
import { alias, fill, pullBack, tensorsOf } from '../core/grad.js';
import { substitute } from '../core/graph.js';
import { add, sub } from '../core/ops/elementwise.js';
import { concat, split } from '../core/ops/movement.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, isTensor, type Tensor } from '../core/tensor.js';

/** What a function of a reversible block returns: a Tensor like its input, or that and a tree of Tensors, its next state. */
export type ReversibleValue = Tensor | { readonly y: Tensor; readonly state: unknown };

/** The two functions of a reversible block. */
export interface ReversibleFunctions<F, G, VF extends ReversibleValue = ReversibleValue, VG extends ReversibleValue = ReversibleValue> {
  f: (u: Tensor, params: F) => VF;
  g: (u: Tensor, params: G) => VG;
}

/** A Tensor whose channels are split, or the two halves. */
export type Reversible = Tensor | readonly [Tensor, Tensor];

/** What comes out where `X` goes in. */
export type ReversibleLike<X extends Reversible> = X extends Tensor ? Tensor : [Tensor, Tensor];

/** The states of the functions of a block, of those that have one. */
export type ReversibleState<VF, VG> = (VF extends { readonly state: infer S } ? { f: S } : unknown) &
  (VG extends { readonly state: infer S } ? { g: S } : unknown);

/** What blocks return whose functions return `V`. */
export type ReversibleResult<X extends Reversible, V, S> = [V] extends [Tensor] ? ReversibleLike<X> : { y: ReversibleLike<X>; state: S };

type Halves = readonly [Tensor, Tensor];

/** What goes through a block, as halves, and how halves become what comes out. */
export function halvesOf(fn: string, name: string, x: Reversible): { halves: Halves; join: (y: Halves) => Reversible } {
  if (isTensor(x)) {
    checkFloat(fn, name, x);
    const [, channels] = x.shape;
    if (channels === undefined || channels % 2 !== 0) throw outOfRange(fn, name, 'a Tensor [N, C, ...] with an even C', x);
    return { halves: split(x, 2, { axis: 1 }) as unknown as Halves, join: (y) => concat(y, { axis: 1 }) };
  }
  if (!Array.isArray(x) || x.length !== 2) throw wrongType(fn, name, 'a Tensor or a pair of Tensors', x);
  const [first, second] = x as unknown as Halves;
  checkFloat(fn, `${name}[0]`, first);
  if (!sameShape(checkFloat(fn, `${name}[1]`, second).shape, first.shape) || second.dtype !== first.dtype) {
    throw outOfRange(fn, `${name}[1]`, `${show(first)}, like ${name}[0]`, second);
  }
  return { halves: [first, second], join: (y) => [...y] };
}

export function checkFunctions(fn: string, functions: ReversibleFunctions<never, never>): void {
  for (const name of ['f', 'g'] as const) {
    if (typeof functions?.[name] !== 'function') throw wrongType(fn, `functions.${name}`, 'a function', functions?.[name]);
  }
}

/** The value of a function at `u`, checked, and its state. */
export function valueAt(
  fn: string,
  name: 'f' | 'g',
  u: Tensor,
  params: unknown,
  functions: ReversibleFunctions<never, never>,
): { y: Tensor; state?: unknown } {
  const given: ReversibleValue = functions[name](u, params as never);
  const value = isTensor(given) ? { y: given } : given;
  if (!isTensor(value?.y) || (value !== given) === 'state' in value)
    throw wrongType(fn, name, 'a Tensor or { y, state } as its value', given);
  if (!sameShape(value.y.shape, u.shape) || value.y.dtype !== u.dtype) {
    throw outOfRange(fn, name, `a value like its input, ${show(u)}, so that it can be added`, value.y);
  }
  return value;
}

/** Where the Tensors of one call of a function stand, as ranges. */
interface Call {
  /** Its parameters, among those of all calls. */
  readonly params: readonly [from: number, to: number];
  /** Its state, among that of all calls. */
  readonly state: readonly [from: number, to: number];
  /** Its trace, among the residuals: what stands for its input, its value, its state. */
  readonly trace: readonly [from: number, to: number];
}

/** Runs blocks forward, and backward by computing what went through them from what came out. */
export function runBlocks(
  fn: string,
  x: Halves,
  blocks: readonly { f: unknown; g: unknown }[],
  functions: ReversibleFunctions<never, never>,
): { y: Halves; state: readonly { f?: unknown; g?: unknown }[] } {
  checkFunctions(fn, functions);
  for (const params of blocks) checkParams(fn, params, ['f', 'g']);
  const tensors = blocks.flatMap(({ f, g }, i) => [...tensorsOf(fn, `the parameters of block ${i}`, { f, g }).values()]);
  const states: { f?: unknown; g?: unknown }[] = blocks.map(() => ({}));
  /** f and g of the first block, f and g of the second, ... */
  const calls: Call[] = [];

  const run = customVjp(fn, {
    forward: (x1, x2, ...own) => {
      let [y1, y2] = [x1, x2] as [Tensor, Tensor];
      const outputs: Tensor[] = [];
      // The trace of every call is part of the residuals, so that it follows the node where that is rebuilt.
      const residuals: Tensor[] = [];
      const call = (name: 'f' | 'g', from: Tensor, block: number): Tensor => {
        const tree = (blocks[block] as { f: unknown; g: unknown })[name];
        const start = calls.at(-1)?.params[1] ?? 0;
        const end = start + tensorsOf(fn, name, tree).size;
        const u = alias(from);
        const value = valueAt(fn, name, u, fill(tree, own.slice(start, end)), functions);
        const state = 'state' in value ? [...tensorsOf(fn, `the state of ${name}`, value.state).values()] : [];
        if ('state' in value) states[block] = { ...states[block], [name]: value.state };
        calls.push({
          params: [start, end],
          state: [outputs.length, outputs.length + state.length],
          trace: [residuals.length, residuals.length + 2 + state.length],
        });
        outputs.push(...state);
        residuals.push(u, value.y, ...state);
        return value.y;
      };
      blocks.forEach((_, block) => {
        y1 = add(y1, call('f', y2, block));
        y2 = add(y2, call('g', y1, block));
      });
      return { outputs: [y1, y2, ...outputs], residuals: [...residuals, ...own] };
    },
    backward: (saved) => backward(calls, saved),
  });
  const [y1, y2, ...state] = run(...x, ...tensors) as [Tensor, Tensor, ...Tensor[]];
  return { y: [y1, y2], state: fill(states, state) };
}

/** The backward rule of all blocks, from the last call to the first. */
function backward(
  calls: readonly Call[],
  { cotangents, inputs, outputs, residuals, wanted }: Parameters<CustomVjpRule<readonly Tensor[]>['backward']>[0],
): (Tensor | undefined)[] {
  const own = residuals.slice(residuals.length - inputs.length + 2);
  const ofParams: (Tensor | undefined)[] = own.map(() => undefined);
  const ofState = cotangents.slice(2);
  // Besides cotangents, which may be constants and so be there at once.
  let signals: readonly Tensor[] = outputs.slice(0, 1);

  /** Computes a call again at `from`, when all before it is done, and pulls the cotangent of its value back to there. */
  const again = ({ params, state, trace }: Call, from: Tensor, cotangent: Tensor | undefined): [value: Tensor, du: Tensor | undefined] => {
    const [u, ...values] = residuals.slice(...trace) as [Tensor, ...Tensor[]];
    const incoming = [cotangent, ...ofState.slice(...state)];
    const at = waitFor(from, [...signals, ...incoming.filter((g) => g !== undefined)]);
    // The value is needed in any case, state only where something depends on it.
    const used = values.flatMap((value, i) => (i === 0 || incoming[i] ? [{ value, g: incoming[i] }] : []));
    const computed = substitute(
      used.map(({ value }) => value),
      new Map([[u, at]]),
    );
    const [du, ...gradients] = pullBack(
      computed,
      used.map(({ g }) => g),
      [at, ...own.slice(...params)],
    );
    gradients.forEach((g, i) => {
      if (wanted[2 + params[0] + i]) ofParams[params[0] + i] = g;
    });
    signals = ofParams.slice(...params).filter((g) => g !== undefined);
    return [computed[0] as Tensor, du];
  };
  const plus = (a: Tensor | undefined, b: Tensor | undefined) => (a && b ? add(a, b) : (a ?? b));

  let [y1, y2] = outputs as [Tensor, Tensor];
  let [d1, d2] = cotangents;
  for (let i = calls.length - 2; i >= 0; i -= 2) {
    const [f, g] = calls.slice(i, i + 2) as [Call, Call];
    const [added2, dy1] = again(g, y1, d2);
    d1 = plus(d1, dy1);
    y2 = sub(y2, added2);
    const [added1, dx2] = again(f, y2, d1);
    d2 = plus(d2, dx2);
    y1 = sub(y1, added1);
  }
  return together([wanted[0] ? d1 : undefined, wanted[1] ? d2 : undefined, ...ofParams], inputs);
}

/**
 * {@link reversibleBlock} several times over, one after the other. The backward pass keeps what comes out of the last block and
 * nothing else: memory does not grow with the number of blocks, but for the parameters. (Blocks that are called one by one
 * keep what comes out of each.)
 *
 * @param x see {@link reversibleBlock}
 * @param params a list with the parameters `{ f, g }` of every block; for no blocks `x` comes back
 * @param functions `{ f, g }`, those of all blocks
 * @returns like `x`; if a function has state, `{ y, state }` with a list of states `{ f, g }`, one per block
 * @throws as {@link reversibleBlock}
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type ConvParams, conv2d, reversibleSequence } from 'tracegrad/layers';
 *
 * const convolve = (u: Tensor, p: ConvParams) => relu(conv2d(u, p, { padding: 'same' }));
 * const stage = (x: Tensor, blocks: { f: ConvParams; g: ConvParams }[]) => reversibleSequence(x, blocks, { f: convolve, g: convolve });
 * ```
 */
export function reversibleSequence<X extends Reversible, F, G, VF extends ReversibleValue, VG extends ReversibleValue>(
  x: X,
  params: readonly { readonly f: F; readonly g: G }[],
  functions: ReversibleFunctions<F, G, VF, VG>,
): ReversibleResult<X, VF | VG, ReversibleState<VF, VG>[]> {
  const fn = 'reversibleSequence';
  if (!Array.isArray(params)) throw wrongType(fn, 'params', 'a list of { f, g }', params);
  const { halves, join } = halvesOf(fn, 'x', x);
  const { y, state } = runBlocks(fn, halves, params, functions as never);
  const stateful = state.some((own) => Object.keys(own).length > 0);
  return (stateful ? { y: join(y), state } : join(y)) as never;
}
