import { checkOptions, outOfRange, wrongType } from '../core/errors.js';
import { alias, pullBack } from '../core/grad.js';
import { topologicalOrder } from '../core/graph.js';
import { hostInput } from '../core/leaf.js';
import { reshape, sum } from '../core/ops/broadcast.js';
import { ones } from '../core/ops/constant.js';
import { concat } from '../core/ops/movement.js';
import { isFinite as finite, where } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkTensor, type Spec, type Tensor } from '../core/tensor.js';
import { lookUp, mapRecord } from '../core/tree.js';
import { applyUpdate, likeTree, namedTensors } from '../core/updates.js';
import type { Evaluate, GradientStrategy, Named } from '../optim/gradients.js';
import type { Optimizer } from '../optim/transform.js';
import { withTensors } from '../runtime/edge.js';
import type { Leaf } from '../runtime/program.js';
import { partOf, rowsOf, tracedLeaves } from './batch.js';
import { type LossContext, type LossResult, metricOf, type Outcome, outcomeOf, type Place, packMetrics } from './outcome.js';
import { checkNames } from './snapshot.js';

const fn = 'trainer.step';
const WHOLE = [0, 1] as const;

/** What updates need to know, in all traces. */
export interface UpdateJob {
  readonly optimizer: Optimizer;
  readonly strategy: GradientStrategy;
  /** The tree of the caller with Tensors by path; where there is none, undefined. */
  readonly paramTree: (named: Named) => unknown;
  /** Names of the parameters that are trained. */
  readonly trainable: readonly string[];
  /** The learning rate of a step, where it is known. */
  readonly learningRate: ((step: number) => number) | undefined;
}

/** What stays the same over all traces of a trainer. */
export interface Job extends UpdateJob {
  readonly loss: (params: unknown, batch: unknown, context: LossContext) => LossResult;
  readonly stateTree: (named: Named) => unknown;
  /** Count gradients that are not finite. */
  readonly countNonFinite: boolean;
}

/** A batch that is to be traced. */
export interface BatchSource {
  readonly tree: unknown;
  readonly leaves: readonly Leaf[];
  /** Whether the last leaf is the mask of the padding. */
  readonly masked: boolean;
}

/** The Tensors of a trace, by what they stand for. */
export interface Held {
  readonly params: Named;
  /** Model state. */
  readonly state: Named;
}

/** Calls the loss function on (a part of) the batch. */
export function traceLoss(
  fn: string,
  job: Pick<Job, 'loss' | 'paramTree' | 'stateTree'>,
  { params, state }: Held,
  tensors: readonly Tensor[],
  source: BatchSource,
  training: boolean,
): Outcome {
  const mask = source.masked ? (tensors.at(-1) as Tensor) : undefined;
  const batch = withTensors(source.tree, tensors.values());
  const context: LossContext = { training, state: job.stateTree(state), ...(mask ? { mask } : {}) };
  const outcome = outcomeOf(fn, job.loss(job.paramTree(params), batch, context), rowsOf(tracedLeaves(source.leaves, tensors)), mask);
  if (mask && !topologicalOrder([outcome.loss]).includes(mask.node)) {
    throw new Error(`${fn}: with padTo the loss must leave out the rows where context.mask is 0, and it does not use the mask`);
  }
  return outcome;
}

/** Everything of a step but the update, traced. */
export interface GradientTrace {
  /** Sums of the loss and the metrics. */
  readonly packed: Tensor;
  /** The same; with `countNonFinite` a count for every gradient follows. */
  readonly reported: Tensor;
  readonly places: readonly Place[];
  readonly perSample: Tensor | undefined;
  /** The model state after the step. */
  readonly state: Named;
  readonly gradients: Named;
  readonly extra: Readonly<Record<string, Named>>;
}

/** `plainGradients` of optim, of which this floor may import types only: one gradient of the whole batch. */
export const wholeBatch: GradientStrategy = { gradients: (evaluate) => evaluate() };

/** Where the gradients of a step come from. */
export type GradientTracer = (held: Held, batch: readonly Tensor[], source: BatchSource, variant: string) => GradientTrace;

/** Traces the gradients that the strategy asks for. */
export function traceGradients(job: Job, held: Held, batch: readonly Tensor[], source: BatchSource, variant: string): GradientTrace {
  const { strategy, trainable, countNonFinite } = job;
  const trained = Object.fromEntries(trainable.map((name) => [name, held.params[name] as Tensor]));
  const outcomes: (Outcome & { readonly part: readonly [number, number] })[] = [];
  let state = held.state;
  const evaluate: Evaluate = (request = {}) => {
    checkOptions(`${fn}: evaluate`, request, ['params', 'part', 'counts']);
    const { params = {}, part = WHOLE, counts = true } = request;
    checkOfTrained('evaluate: params', trained, params);
    const [index, count] = part;
    if (![index, count].every(Number.isInteger) || index < 0 || index >= count) {
      throw outOfRange(fn, 'evaluate: part', '[index, count] with 0 <= index < count', part);
    }
    // Stand-ins, so that only this evaluation is differentiated.
    const own = mapRecord({ ...trained, ...params }, (tensor) => alias(tensor));
    const found = traceLoss(fn, job, { params: { ...held.params, ...own }, state }, partOf(fn, source.leaves, batch, part), source, true);
    const { loss, weight } = found;
    const cotangents = pullBack([loss], [ones([], loss.dtype)], Object.values(own));
    const gradients = Object.keys(own).flatMap((name, i) => (cotangents[i] ? [[name, cotangents[i]] as const] : []));
    if (gradients.length === 0) throw new Error(`${fn}: the loss depends on no parameter that is trained`);
    if (counts) {
      outcomes.push({ ...found, part });
      state = nextState(state, found.state);
    }
    return { gradients: Object.fromEntries(gradients), weight };
  };
  const result = strategy.gradients(evaluate, { params: trained, variant });
  if (typeof result?.gradients !== 'object' || result.gradients === null) {
    throw wrongType(fn, 'the gradient strategy', '{ gradients, extra?, metrics? } as its result', result);
  }
  const { gradients, extra = {}, metrics = {} } = result;
  if (outcomes.length === 0) throw new Error(`${fn}: the gradient strategy made no evaluation that counts`);
  checkOfTrained('the gradient strategy: gradients', trained, gradients);
  const undeclared = Object.keys(extra).find((name) => !strategy.extra?.includes(name));
  if (undeclared !== undefined) {
    throw new TypeError(`${fn}: the gradient strategy returned further gradients '${undeclared}', which are not in its extra`);
  }
  for (const [name, further] of Object.entries(extra)) checkOfTrained(`the gradient strategy: extra.${name}`, trained, further);
  const records = outcomes.map((o) => o.metrics);
  const own = Object.entries(metrics).map(([name, value]) => [name, metricOf(fn, name, value, ones([]))] as const);
  const { packed, places } = packMetrics(fn, records, Object.fromEntries(own));
  return {
    packed,
    reported: countNonFinite ? concat([packed, ...Object.values(gradients).map(nonFinite)]) : packed,
    places,
    perSample: inRows(outcomes),
    state,
    gradients,
    extra,
  };
}

/** What a graph of gradients returns: the metrics, the values per sample, the model state that changes, and the gradients. */
export function gradientOutputs(found: GradientTrace, before: Named): { outputs: Tensor[]; state: string[] } {
  const state = Object.keys(before).filter((name) => found.state[name] !== before[name]);
  const outputs = [
    found.packed,
    ...(found.perSample ? [found.perSample] : []),
    ...state.map((name) => found.state[name] as Tensor),
    ...[found.gradients, ...Object.values(found.extra)].flatMap((named) => Object.values(named)),
  ];
  return { outputs, state };
}

/** How many elements of a Tensor are not finite, as a vector of one element. */
export const nonFinite = (x: Tensor): Tensor => reshape(sum(where(finite(x), 0, 1)), [1]);

/** The state that an evaluation leaves; what it does not return stays. */
function nextState(before: Named, after: Named | undefined): Named {
  const unknown = Object.keys(after ?? {}).find((name) => !Object.hasOwn(before, name));
  if (unknown !== undefined) throw new TypeError(`${fn}: the loss function returned state '${unknown}', which is not in the option state`);
  for (const [name, tensor] of Object.entries(after ?? {})) checkLike(fn, `state ${name} after the step`, before[name] as Tensor, tensor);
  return { ...before, ...after };
}

/** Tensors of trained parameters must be called and be like them. */
function checkOfTrained(what: string, trained: Named, given: Named): void {
  for (const [name, tensor] of Object.entries(given)) {
    const param = lookUp(trained, name);
    if (!param) throw new TypeError(`${fn}: ${what}: '${name}' is no parameter that is trained`);
    checkLike(fn, `${what}: ${name}`, param, tensor, 'like the parameter');
  }
}

/** The values per sample of all parts in the order of the rows; none if the parts are not the whole batch, each once. */
function inRows(outcomes: readonly (Outcome & { readonly part: readonly [number, number] })[]): Tensor | undefined {
  const sorted = [...outcomes].sort((a, b) => a.part[0] - b.part[0]);
  const parts = sorted.flatMap(({ perSample, part: [index, count] }, i) =>
    perSample && index === i && count === outcomes.length ? [perSample] : [],
  );
  return parts.length === outcomes.length ? concat(parts) : undefined;
}

/** What comes after a step must be like what was before it. */
function checkLike(fn: string, what: string, { shape, dtype }: Spec, tensor: Tensor, why = 'as before it'): void {
  if (!sameShape(checkTensor(fn, what, tensor).shape, shape) || tensor.dtype !== dtype) {
    throw outOfRange(fn, what, `${dtype}[${shape.join(', ')}], ${why}`, tensor);
  }
}

/** Parameters and optimizer state after the update; what stays as it is is the same Tensor. */
export function traceUpdate(
  fn: string,
  job: UpdateJob,
  params: Named,
  state: Named,
  gradients: Named,
  extra: Readonly<Record<string, Named>>,
): { params: Named; state: Named } {
  const { optimizer, paramTree, learningRate } = job;
  const current = paramTree(params);
  const rate = learningRate && { learningRate: hostInput(({ step }) => learningRate(step)) };
  const result = optimizer.update(likeTree(fn, current, gradients), state, current, {
    ...rate,
    gradients: extra,
  });
  const updates = namedTensors(fn, result.updates);
  checkNames(
    fn,
    'what the optimizer returned',
    [],
    [...namesNotIn(params, updates), ...namesNotIn(state, result.state)].map((name) => [name, name] as const),
  );
  const after = (what: string, before: Tensor, tensor: Tensor | undefined): Tensor => {
    checkLike(fn, `${what} after the step`, before, tensor as Tensor);
    return tensor as Tensor;
  };
  return {
    params: mapRecord(params, (param, name) => {
      const update = lookUp(updates, name);
      if (!update) return param;
      if (!sameShape(update.shape, param.shape))
        throw outOfRange(fn, `the update of ${name}`, `the shape [${param.shape.join(', ')}]`, update);
      return after(`params.${name}`, param, applyUpdate(param, update));
    }),
    state: mapRecord(state, (before, name) => after(`state ${name}`, before, lookUp(result.state, name))),
  };
}

const namesNotIn = (expected: Named, given: Named): string[] => Object.keys(given).filter((name) => !Object.hasOwn(expected, name));
