import { checkNumber, wrongType } from '../core/errors.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { lookUp, mapRecord } from '../core/tree.js';
import { likeTree, namedTensors } from '../core/updates.js';
import type { Extra, GradientStrategy, Named, Refresh } from './gradients.js';

/**
 * A gradient transform, and so an optimizer: a pair of pure functions of traced values, to be composed with `chain`.
 *
 * State is a flat record: `<slot>.<parameter>` for what is kept per parameter, `<slot>` for what is kept once.
 */
export interface Transform {
  /** The first parts of the names of the state. */
  readonly slots: readonly string[];
  /** Initial state for a tree of parameters. */
  init(params: unknown): Named;
  /**
   * Turns gradients into updates, which are *added* to the parameters at the end (see `applyUpdates`).
   *
   * @param updates a tree like `params`; a leaf that is undefined has no gradient in this step: its parameter and its state are left alone
   * @param state as returned by `init` or by the last `update`
   * @param extra what the gradient strategy found besides the gradients
   */
  update<P>(updates: P, state: Named, params: P, extra?: Extra): { updates: P; state: Named };
  /** How it wants its gradients to be obtained. Default: one gradient of the whole batch. */
  readonly gradients?: GradientStrategy;
  /** What the host computes between steps. */
  readonly refreshes?: readonly Refresh[];
  /** Its learning rates, as functions of the step. */
  readonly learningRates?: readonly ((step: number) => number)[];
}

/** A transform that ends with the learning rate, so that its updates can be applied. */
export type Optimizer = Transform;

/** What a transform does, in terms of names. */
export interface Rule extends Pick<Transform, 'gradients' | 'refreshes' | 'learningRates'> {
  readonly slots?: readonly string[];
  init?(params: Named): Named;
  /** `updates` holds the parameters that have a gradient; so must the result. */
  update(updates: Named, state: Named, params: Named, extra: Extra): { updates: Named; state?: Named };
}

/** A transform from a rule about named Tensors. State that the rule does not return stays as it is. */
export function transform(fn: string, { slots = [], init = () => ({}), update, ...rest }: Rule): Transform {
  return {
    ...rest,
    slots,
    init: (params) => init(namedTensors(fn, params)),
    update: (updates, state, params, extra = {}) => {
      const result = update(namedTensors(fn, updates), state, namedTensors(fn, params), extra);
      return { updates: likeTree(fn, updates, result.updates), state: { ...state, ...result.state } };
    },
  };
}

/** The same function of every named Tensor. */
export const mapNamed = (named: Named, fn: (tensor: Tensor, name: string) => Tensor): Record<string, Tensor> => mapRecord(named, fn);

/** The state of one slot under its full names. */
export const slot = (name: string, values: Named): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(values).map(([key, value]) => [`${name}.${key}`, value]));

/** One entry of the state; missing ones are an error that names them. */
export function stateOf(fn: string, state: Named, name: string): Tensor {
  const value = state[name];
  if (!value) throw wrongType(fn, `state '${name}'`, 'a Tensor (state comes from init() with the same parameters)', value);
  return value;
}

/** float32, in which all state is kept and all updates are computed. */
export const wide = (tensor: Tensor): Tensor => cast(tensor, 'float32');

/** Which parameters something applies to: by name (missing ones count as true), or by a function of name and shape. */
export type Mask = Readonly<Record<string, boolean>> | ((name: string, shape: readonly number[]) => boolean);

export function checkMask(fn: string, argument: string, mask: unknown): void {
  const record = typeof mask === 'object' && mask !== null && Object.values(mask).every((value) => typeof value === 'boolean');
  if (mask !== undefined && !record && typeof mask !== 'function') {
    throw wrongType(fn, argument, 'a record of booleans or a function of name and shape', mask);
  }
}

/** Whether a mask selects a parameter; a record that names parameters which are not there is an error. */
export function maskFor(fn: string, argument: string, mask: Mask | undefined, params: Named): (name: string) => boolean {
  if (mask === undefined) return () => true;
  if (typeof mask === 'function') return (name) => mask(name, params[name]?.shape ?? []);
  const unknown = Object.keys(mask).find((name) => !Object.hasOwn(params, name));
  if (unknown !== undefined) {
    throw new RangeError(
      `${fn}: ${argument} names '${unknown}', which is no parameter; the parameters are ${Object.keys(params).join(', ')}`,
    );
  }
  return (name) => lookUp(mask, name) ?? true;
}

const inUnitInterval = (b: number) => b >= 0 && b < 1;

export const checkDecayRate = (fn: string, argument: string, value: unknown): void =>
  checkNumber(fn, argument, value, 'a number in [0, 1)', inUnitInterval);

export const checkNonNegative = (fn: string, argument: string, value: unknown): void =>
  checkNumber(fn, argument, value, 'a number >= 0', (v) => v >= 0);
