import { add } from './ops/elementwise.js';
import { cast } from './ops/select.js';
import { isTensor, type Tensor } from './tensor.js';
import { lookUp, mapTree } from './tree.js';

const isUpdate = (value: unknown): value is Tensor | undefined => value === undefined || isTensor(value);

/** The Tensors of a tree by their paths; leaves that are undefined are left out. */
export function namedTensors(fn: string, tree: unknown): Record<string, Tensor> {
  const found: [string, Tensor][] = [];
  mapTree(fn, tree, isUpdate, 'a Tensor', (tensor, path) => {
    if (tensor) found.push([path, tensor]);
  });
  return Object.fromEntries(found);
}

/** A tree like `tree` with the Tensors of `named` at its leaves; undefined where there is none. */
export const likeTree = <P>(fn: string, tree: P, named: Readonly<Record<string, Tensor>>): P =>
  mapTree(fn, tree, isUpdate, 'a Tensor', (_, path) => lookUp(named, path)) as P;

/** A parameter plus its update; float16 is added to in float32 and rounded once. */
export const applyUpdate = (param: Tensor, update: Tensor): Tensor =>
  cast(add(cast(param, 'float32'), cast(update, 'float32')), param.dtype);

/**
 * Parameters plus updates. float16 parameters are added to in float32 and rounded once.
 *
 * @param params a tree of Tensors
 * @param updates a tree like it, from an optimizer's `update`; where it is undefined the parameter stays
 */
export function applyUpdates<P>(params: P, updates: P): P {
  const named = namedTensors('applyUpdates', updates);
  return mapTree('applyUpdates', params, isTensor, 'a Tensor', (param, path) => {
    const update = lookUp(named, path);
    return update ? applyUpdate(param, update) : param;
  }) as P;
}
