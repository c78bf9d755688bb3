import type { ArrayLike, NDArray } from './array.js';
import type { Tensor } from './tensor.js';

type Replace<T, From, To> = T extends From
  ? To
  : T extends readonly unknown[]
    ? { [K in keyof T]: Replace<T[K], From, To> }
    : T extends object
      ? { [K in keyof T]: Replace<T[K], From, To> }
      : T;

/** A tree of Tensors with arrays in their place: what a compiled function returns. */
export type Arrays<T> = Replace<T, Tensor, NDArray>;

/** A tree of Tensors with anything that is accepted as an array in their place: what a compiled function takes. */
export type ArrayInputs<T> = Replace<T, Tensor, ArrayLike>;

/** A tree of arrays with Tensors in their place: the type of traced parameters from the type of initial ones. */
export type Tensors<T> = Replace<T, ArrayLike, Tensor>;
