import { inputLeaf } from '../../src/core/leaf.js';
import { sizeOf } from '../../src/core/shape.js';
import type { DType, Shape, Tensor } from '../../src/index.js';
import { evaluate, type RefArray } from './reference.js';

/** An argument of a traced function. */
export const leaf = (shape: Shape = [], dtype: DType = 'float32', name = 'x'): Tensor => inputLeaf({ shape, dtype }, name);

/** Values of leaves, for the reference: lists with one number per element. */
export const valuesOf = (pairs: readonly (readonly [Tensor, readonly number[]])[]): Map<Tensor, RefArray> =>
  new Map(
    pairs.map(([tensor, numbers]) => {
      if (numbers.length !== sizeOf(tensor.shape)) throw new Error(`${numbers.length} numbers for shape [${tensor.shape.join(', ')}]`);
      return [tensor, { shape: tensor.shape, data: Float64Array.from(numbers) }];
    }),
  );

/** The elements of Tensors, by the reference. */
export const numbersOf = (outputs: readonly Tensor[], pairs: readonly (readonly [Tensor, readonly number[]])[] = []): number[][] =>
  evaluate(outputs, valuesOf(pairs)).map(({ data }) => [...data]);
