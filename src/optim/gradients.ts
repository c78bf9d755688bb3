import type { NDArray } from '../core/array.js';
import type { DType } from '../core/dtype.js';
import { checkBoolean, checkNumber, checkOptions, checkSize, wrongType } from '../core/errors.js';
import { sum } from '../core/ops/broadcast.js';
import { abs, add, div, mul, sqrt, square } from '../core/ops/elementwise.js';
import { cast, greater, where } from '../core/ops/select.js';
import type { Rng } from '../core/rng.js';
import type { Tensor } from '../core/tensor.js';

/** Tensors by name. Names of parameters are paths in their tree (`blocks.0.weight`). */
export type Named = Readonly<Record<string, Tensor>>;

/** What an update may use besides gradients, state and parameters. */
export interface Extra {
  /** The learning rate, where it comes from outside: it takes the place of the optimizer's own, which must be the only one. */
  readonly learningRate?: Tensor;
  /** Further gradients, as the strategy calls them. */
  readonly gradients?: Readonly<Record<string, Named>>;
}

/** One evaluation of loss and gradient, as a strategy asks for it. */
export interface EvaluationRequest {
  /** Where to evaluate: other values for some of the trained parameters. Default: the current ones. */
  readonly params?: Named;
  /** Part `index` of the batch, cut into `count` parts along its first axis that differ by at most one row. Default: all of it. */
  readonly part?: readonly [index: number, count: number];
  /** Whether the loss, the metrics and the model state of this evaluation count. Default true. */
  readonly counts?: boolean;
}

export interface Evaluation {
  /** Parameters that the loss does not depend on are not in it. */
  readonly gradients: Named;
  /** How many terms the loss is the mean of; 0 if there are none. */
  readonly weight: Tensor;
}

/** Loss and gradient of the batch, or of a part of it, in the trace of the step. */
export type Evaluate = (request?: EvaluationRequest) => Evaluation;

/** What a strategy gives to the optimizer. */
export interface GradientResult {
  readonly gradients: Named;
  /** Further gradients for the update. */
  readonly extra?: Readonly<Record<string, Named>>;
  /** Scalars to report with the metrics. */
  readonly metrics?: Readonly<Record<string, Tensor>>;
}

/**
 * How gradients are obtained: a pure function of traced values, like an optimizer. An optimizer that needs more than the gradient of
 * the batch has one as its `gradients`; a trainer takes one as an option.
 */
export interface GradientStrategy {
  /** Asks for evaluations of the loss and makes gradients of them. */
  readonly gradients: (evaluate: Evaluate, context: { readonly params: Named; readonly variant: string }) => GradientResult;
  /** Names what is done in a step, counted from 0, where steps differ. Every name is traced once. Default: they do not. */
  readonly variant?: (step: number) => string;
  /** The names of the further gradients, so that there is memory for them. */
  readonly extra?: readonly string[];
}

/** What an optimizer has the host compute between two steps: random projections, a decomposition of the gradient. */
export interface Refresh {
  /** Whether there is something to do before the update of a step, counted from 0. */
  readonly when: (step: number) => boolean;
  /** Whether `compute` needs the gradients of the step. Default false. */
  readonly needsGradients?: boolean;
  /** New values for entries of the state, of the same shapes and dtypes. */
  readonly compute: (context: RefreshContext) => Readonly<Record<string, NDArray>> | Promise<Readonly<Record<string, NDArray>>>;
}

export interface RefreshContext {
  readonly step: number;
  /** A generator of this step alone. */
  readonly rng: Rng;
  readonly params: Readonly<Record<string, NDArray>>;
  readonly state: Readonly<Record<string, NDArray>>;
  /** Where they were asked for; parameters without gradient are not in it. */
  readonly gradients: Readonly<Record<string, NDArray>>;
}

/** The gradient of the whole batch: what is done if nothing else is asked for. */
export const plainGradients: GradientStrategy = { gradients: (evaluate) => evaluate() };

/** `sum(weight * gradient) / sum(weight)`, added up in float32, and 0 where the weights are 0, whatever a gradient without weight is. */
function weightedMean(evaluations: readonly Evaluation[]): Named {
  const total = evaluations.map(({ weight }) => weight).reduce((a, b) => add(a, b));
  const some = greater(total, 0);
  const counts = evaluations.map(({ weight }) => greater(weight, 0));
  const shares = evaluations.map(({ weight }) => where(some, div(weight, where(some, total, 1)), 0));
  const sums = new Map<string, { sum: Tensor; dtype: DType }>();
  evaluations.forEach(({ gradients }, i) => {
    for (const [name, gradient] of Object.entries(gradients)) {
      const scaled = mul(where(counts[i] as Tensor, cast(gradient, 'float32'), 0), shares[i] as Tensor);
      const before = sums.get(name);
      sums.set(name, { sum: before ? add(before.sum, scaled) : scaled, dtype: gradient.dtype });
    }
  });
  return Object.fromEntries(Array.from(sums, ([name, { sum, dtype }]) => [name, cast(sum, dtype)]));
}

/**
 * The gradient of the batch from micro-batches: the batch is cut into `parts`, and the gradients of the parts are averaged, weighted
 * by how many terms the loss of a part is the mean of. It equals the gradient of the whole batch but for rounding, unless the model
 * looks at the batch as a whole (batch norm). The parts are unrolled in one graph.
 *
 * @param options.parts at least 1; a batch with fewer rows fails
 * @example
 * ```ts
 * import { accumulatedGradients } from 'tracegrad/optim';
 *
 * const gradients = accumulatedGradients({ parts: 4 }); // an option of createTrainer()
 * ```
 */
export function accumulatedGradients(options: { parts: number }): GradientStrategy {
  const fn = 'accumulatedGradients';
  checkOptions(fn, options, ['parts']);
  const { parts } = options;
  checkSize(fn, 'parts', parts);
  return {
    gradients: (evaluate) => ({ gradients: weightedMean(Array.from({ length: parts }, (_, i) => evaluate({ part: [i, parts] }))) }),
  };
}

export interface HalfGradientsOptions {
  /** In which steps, counted from 0, the batch is halved; the others take it whole. Default: all. */
  when?: (step: number) => boolean;
}

/**
 * The gradient of the batch as the mean of those of its two halves, which the update gets as `extra.gradients.first` and
 * `extra.gradients.second`: how far they agree tells how noisy they are. In steps without halves there is no such extra.
 *
 * Source: the two half-batch gradients of Large-batch Optimization for Dense Visual Predictions (2210.11078).
 */
export function halfGradients(options: HalfGradientsOptions = {}): GradientStrategy {
  checkOptions('halfGradients', options, ['when']);
  const { when = () => true } = options;
  if (typeof when !== 'function') throw wrongType('halfGradients', 'when', 'a function of the step', when);
  return {
    extra: ['first', 'second'],
    variant: (step) => (when(step) ? 'halves' : 'whole'),
    gradients: (evaluate, { variant }) => {
      if (variant !== 'halves') return evaluate();
      const first = evaluate({ part: [0, 2] });
      const second = evaluate({ part: [1, 2] });
      return { gradients: weightedMean([first, second]), extra: { first: first.gradients, second: second.gradients } };
    },
  };
}

export interface PerturbedGradientsOptions {
  /** Length of the perturbation, >= 0. Default 0.05. */
  rho?: number;
  /** Scale the perturbation by the size of each parameter (2102.11600). Default false. */
  adaptive?: boolean;
}

/**
 * The gradient at the parameters moved a step of length `rho` uphill, as sharpness-aware minimisation asks for. Loss, metrics and
 * model state are those at the parameters themselves. A gradient of 0 moves nothing.
 *
 * Source: Sharpness-Aware Minimization for Efficiently Improving Generalization (2010.01412); with `adaptive` ASAM (2102.11600).
 */
export function perturbedGradients(options: PerturbedGradientsOptions = {}): GradientStrategy {
  const fn = 'perturbedGradients';
  checkOptions(fn, options, ['rho', 'adaptive']);
  const { rho = 0.05, adaptive = false } = options;
  checkNumber(fn, 'rho', rho, 'a number >= 0', (r) => r >= 0);
  checkBoolean(fn, 'adaptive', adaptive);
  return {
    gradients: (evaluate, { params }) => {
      const { gradients } = evaluate();
      const names = Object.keys(gradients);
      const param = (name: string) => params[name] as Tensor;
      // Per parameter: |w| g with `adaptive`, else g; in float32, as squares of float16 gradients vanish.
      const scaled = names.map((name) => {
        const g = cast(gradients[name] as Tensor, 'float32');
        return adaptive ? mul(abs(cast(param(name), 'float32')), g) : g;
      });
      const size = sqrt(scaled.map((g) => sum(square(g))).reduce((a, b) => add(a, b)));
      const factor = div(rho, add(size, 1e-12));
      const moved = names.map((name, i) => {
        const w = cast(param(name), 'float32');
        const direction = adaptive ? mul(abs(w), scaled[i] as Tensor) : (scaled[i] as Tensor);
        return [name, cast(add(w, mul(direction, factor)), param(name).dtype)] as const;
      });
      return { gradients: evaluate({ params: { ...params, ...Object.fromEntries(moved) }, counts: false }).gradients };
    },
  };
}
