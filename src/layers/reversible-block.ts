import { checkParams } from '../core/errors.js';
import { sub } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import {
  checkFunctions,
  halvesOf,
  type Reversible,
  type ReversibleFunctions,
  type ReversibleLike,
  type ReversibleResult,
  type ReversibleState,
  type ReversibleValue,
  runBlocks,
  valueAt,
} from './reversible-sequence.js';

/**
 * A residual block that can be undone: with the channels split into halves, `y1 = x1 + f(x2)` and `y2 = x2 + g(y1)`.
 *
 * For differentiation only the result and the parameters are kept. The backward pass computes `g(y1)` again, `x2 = y2 - g(y1)`, `f(x2)`
 * and `x1 = y1 - f(x2)`, for the price of one more forward pass. What `f` and `g` compute on the way is never there for more than one
 * of them. Of a chain of blocks, {@link reversibleSequence} keeps the last result only, where blocks that are called one by one keep
 * one result each. Host inputs such as dropout masks are shared by both passes, batch statistics are computed again from the same
 * batch, and state comes from the forward pass, so that it is updated once.
 *
 * `x` comes back with the rounding errors of two additions, about 1e-7 of its size in float32 (after 10 blocks 1e-5, after 100 1e-3,
 * with functions of about the size of `x`) and 1e-3 in float16. Downsampling cannot be undone: put it between stages of blocks.
 *
 * Source: The Reversible Residual Network (1707.04585). The reversible mobile inverted bottleneck (2104.09648) is the second example.
 *
 * @param x `[N, C, ...]`, float, with an even C; or a pair of Tensors of one shape, the halves
 * @param params two trees of Tensors, `{ f, g }`: all that the functions read besides `u` and constants, running statistics included
 * @param functions `{ f, g }`, each from a half of the channels and its parameters to a Tensor of the same shape and dtype, or to
 *   `{ y, state }`, with a tree of Tensors as its next state
 * @returns like `x`: a Tensor, or a pair; if a function returns state, `{ y, state: { f, g } }` with the states there are
 * @throws if the number of channels is odd, if a function changes shape or dtype, or if it uses a traced float value that is not in
 *   its parameters (see `customVjp`)
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type LinearParams, linear, reversibleBlock } from 'tracegrad/layers';
 *
 * type Params = { f: LinearParams; g: LinearParams };
 * const layer = (u: Tensor, p: LinearParams) => relu(linear(u, p));
 * const block = (x: Tensor, p: Params) => reversibleBlock(x, p, { f: layer, g: layer });
 * ```
 * @example
 * ```ts
 * // The reversible mobile inverted bottleneck: expand, convolve every channel by itself, project; without a skip of its own.
 * import { relu, type Tensor } from 'tracegrad';
 * import { type ConvParams, conv2d, reversibleBlock } from 'tracegrad/layers';
 * import { type ChannelParams, groupNorm } from 'tracegrad/norm';
 *
 * type Convolution = { conv: ConvParams; norm: ChannelParams };
 * type Bottleneck = { expand: Convolution; depthwise: Convolution; project: Convolution };
 *
 * const normConv = (x: Tensor, { conv, norm }: Convolution, groups = 1) =>
 *   groupNorm(conv2d(x, conv, { padding: 'same', groups }), norm, { numGroups: 4 });
 * const bottleneck = (u: Tensor, { expand, depthwise, project }: Bottleneck) => {
 *   const wide = relu(normConv(u, expand));
 *   return normConv(relu(normConv(wide, depthwise, wide.shape[1])), project);
 * };
 * const block = (x: Tensor, p: { f: Bottleneck; g: Bottleneck }) => reversibleBlock(x, p, { f: bottleneck, g: bottleneck });
 * ```
 */
export function reversibleBlock<X extends Reversible, F, G, VF extends ReversibleValue, VG extends ReversibleValue>(
  x: X,
  params: { readonly f: F; readonly g: G },
  functions: ReversibleFunctions<F, G, VF, VG>,
): ReversibleResult<X, VF | VG, ReversibleState<VF, VG>> {
  const fn = 'reversibleBlock';
  const { halves, join } = halvesOf(fn, 'x', x);
  const { y, state } = runBlocks(fn, halves, [params], functions as never);
  const [own = {}] = state;
  return (Object.keys(own).length > 0 ? { y: join(y), state: own } : join(y)) as never;
}

/**
 * What went into a {@link reversibleBlock}, from what came out: `x2 = y2 - g(y1)`, `x1 = y1 - f(x2)`. State that the functions
 * return is dropped; functions that draw random numbers draw new ones. An ordinary differentiable function.
 *
 * @param y what the block returned: a Tensor, or a pair of halves
 * @param params as of the block
 * @param functions as of the block
 * @returns like `y`
 * @throws as {@link reversibleBlock}
 */
export function reversibleBlockInverse<Y extends Reversible, F, G>(
  y: Y,
  params: { readonly f: F; readonly g: G },
  functions: ReversibleFunctions<F, G>,
): ReversibleLike<Y> {
  const fn = 'reversibleBlockInverse';
  checkFunctions(fn, functions as never);
  checkParams(fn, params, ['f', 'g']);
  const { halves, join } = halvesOf(fn, 'y', y);
  const [y1, y2] = halves;
  const value = (name: 'f' | 'g', u: Tensor): Tensor => valueAt(fn, name, u, params[name], functions as never).y;
  const x2 = sub(y2, value('g', y1));
  return join([sub(y1, value('f', x2)), x2]) as ReversibleLike<Y>;
}
