import { type NDArray, toScalar } from '../core/array.js';
import { wrongType } from '../core/errors.js';
import { valueAndGrad } from '../core/grad.js';
import type { Tensor } from '../core/tensor.js';
import type { ArrayInputs, Arrays } from '../core/types.js';
import type { Backend } from '../runtime/backend.js';
import { type CompileOptions, compile } from '../runtime/compile.js';

export interface LossWithGradOptions<K extends number = number> extends CompileOptions {
  /** Which argument to differentiate with respect to. Default 0. */
  argnum?: K;
}

/** A loss on a backend: its value and its gradient, from arrays. */
export interface LossWithGrad<A extends unknown[], K extends number> extends AsyncDisposable {
  (...args: ArrayInputs<A>): Promise<{ loss: number; gradient: Arrays<A[K]> }>;
  /** Releases the sessions. */
  close(): Promise<void>;
}

/**
 * A loss of this package for use elsewhere: arrays in, the value and the gradient with respect to one argument out. Another framework
 * computes predictions, calls it, and goes on with the gradient.
 *
 * @param backend made by `createBackend`
 * @param loss a function of Tensors (or trees of them) that returns a scalar
 * @param options.argnum which argument to differentiate with respect to, default 0: an array or a tree of float arrays
 * @example
 * ```ts
 * import { array, type Tensor } from 'tracegrad';
 * import { crossEntropyLoss } from 'tracegrad/losses';
 * import { createBackend } from 'tracegrad/node';
 * import { lossWithGrad } from 'tracegrad/train';
 *
 * const backend = await createBackend({ device: 'cpu' });
 * const criterion = lossWithGrad(backend, (logits: Tensor, labels: Tensor) => crossEntropyLoss(logits, labels, { labelSmoothing: 0.1 }));
 * const { loss, gradient } = await criterion(array([[2, 1, 0]]), array([0], { dtype: 'int32' }));
 * await backend.close();
 * ```
 */
export function lossWithGrad<A extends unknown[], const K extends number = 0>(
  backend: Backend,
  loss: (...args: A) => Tensor,
  options: LossWithGradOptions<K> = {},
): LossWithGrad<A, K> {
  if (typeof loss !== 'function') throw wrongType('lossWithGrad', 'loss', 'a function', loss);
  const { argnum = 0 as K, ...rest } = options;
  const both = valueAndGrad(loss, { argnum });
  const name = loss.name || 'lossWithGrad';
  // The name is what errors call it.
  const { [name]: fn } = {
    [name]: (...args: A) => {
      const [value, gradient] = both(...args);
      return { value, gradient };
    },
  };
  const compiled = compile(backend, fn as (...args: A) => { value: Tensor; gradient: A[K] }, rest);
  const call = async (...args: ArrayInputs<A>) => {
    const { value, gradient } = (await compiled(...args)) as { value: NDArray; gradient: Arrays<A[K]> };
    return { loss: toScalar(value), gradient };
  };
  return Object.assign(call, { close: compiled.close, [Symbol.asyncDispose]: compiled.close });
}
