import { isFloat } from '../core/dtype.js';
import { outOfRange, wrongType } from '../core/errors.js';
import { scalarLoss } from '../core/grad.js';
import { sum } from '../core/ops/broadcast.js';
import { full } from '../core/ops/constant.js';
import { add } from '../core/ops/elementwise.js';
import { concat } from '../core/ops/movement.js';
import { cast } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkTensor, isTensor, type Tensor } from '../core/tensor.js';
import { lookUp } from '../core/tree.js';
import { namedTensors } from '../core/updates.js';
import type { Named } from '../optim/gradients.js';
import { type Metric, meanOf } from './metrics/metric.js';

/** What a loss function is told besides parameters and batch. */
export interface LossContext<S = unknown> {
  /** True in `step`, false in `evaluate` and `predict`. */
  readonly training: boolean;
  /** The model's state, such as running statistics. */
  readonly state: S;
  /** With the option `padTo`, float32 `[batch size]`: 1 for rows of the batch, 0 for padding. */
  readonly mask?: Tensor;
}

/** A scalar loss, alone or with more. */
export type LossResult<M extends string = string, S = unknown> =
  | Tensor
  | {
      readonly loss: Tensor;
      /** Scalars or metrics to report, by name. Of several parts or batches scalars are averaged with the weight of the loss. */
      readonly metrics?: Readonly<Record<M, Tensor | Metric>>;
      /** The model's next state, a tree like the one in the context. Default: it stays. `evaluate` does not change it. */
      readonly state?: S;
      /** A value per row of the batch, `[batch size, ...]`, to be returned by `step` and `evaluate`. */
      readonly perSample?: Tensor;
      /** How many terms the loss is the mean of, a scalar. Default: the rows of the batch. Weighs micro-batches and batches. */
      readonly weight?: Tensor;
    };

/** A loss with what came along, in one form. */
export interface Outcome {
  readonly loss: Tensor;
  readonly weight: Tensor;
  /** What is reported, by name; the first is the loss. */
  readonly metrics: Readonly<Record<string, Metric>>;
  /** The model's next state by path, if there is one. */
  readonly state: Named | undefined;
  readonly perSample: Tensor | undefined;
}

/** The name of the loss among the metrics; none of them can have it. */
const LOSS = '';

const keys = ['loss', 'metrics', 'state', 'perSample', 'weight'];

const isMetric = (value: unknown): value is Metric =>
  typeof value === 'object' && value !== null && 'sums' in value && typeof (value as Metric).compute === 'function';

const scalarOf = (fn: string, name: string, value: unknown): Tensor => {
  const tensor = checkTensor(fn, name, value);
  if (tensor.rank !== 0) throw outOfRange(fn, name, 'a scalar (shape [])', tensor);
  return cast(tensor, 'float32');
};

/** A scalar or a metric as a metric: the mean over batches, weighted. */
export function metricOf(fn: string, name: string, value: unknown, weight: Tensor): Metric {
  if (!isMetric(value)) return meanOf(scalarOf(fn, `metric '${name}'`, value), weight);
  const { shape, dtype } = checkTensor(fn, `the sums of metric '${name}'`, value.sums);
  if (shape.length !== 1 || dtype !== 'float32') {
    throw outOfRange(fn, `the sums of metric '${name}'`, 'a float32 vector', value.sums);
  }
  return value;
}

/**
 * Checks what a loss function returned.
 *
 * @param rows of the batch; undefined if its arrays do not agree on any
 */
export function outcomeOf(fn: string, result: LossResult, rows: number | undefined, mask: Tensor | undefined): Outcome {
  const isRecord = typeof result === 'object' && result !== null && 'loss' in result;
  const expected = `a Tensor or { ${keys.map((key, i) => (i === 0 ? key : `${key}?`)).join(', ')} }`;
  if (!isTensor(result) && !isRecord) throw wrongType(fn, 'the loss function', `${expected} as its result`, result);
  const given: Exclude<LossResult, Tensor> = isTensor(result) ? { loss: result } : result;
  const unknown = Object.keys(given).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw new TypeError(`${fn}: the loss function returned '${unknown}'; expected ${expected}`);
  const loss = scalarLoss(fn, given.loss);
  const { perSample } = given;
  if (perSample !== undefined) {
    const { shape, dtype } = checkTensor(fn, 'perSample', perSample);
    if (!isFloat(dtype) || shape.length === 0 || (rows !== undefined && shape[0] !== rows)) {
      throw outOfRange(fn, 'perSample', `a float Tensor whose first axis is the ${rows ?? 'rows'} rows of the batch`, perSample);
    }
  }
  const weight = given.weight === undefined ? (mask ? sum(mask) : full([], rows ?? 1)) : scalarOf(fn, 'weight', given.weight);
  const metrics = Object.entries({ ...given.metrics }).map(([name, value]) => {
    if (name === LOSS) throw new TypeError(`${fn}: metrics: a metric needs a name`);
    return [name, metricOf(fn, name, value, weight)] as const;
  });
  const state = given.state === undefined ? undefined : namedTensors(fn, given.state);
  return { loss, weight, metrics: { [LOSS]: metricOf(fn, LOSS, loss, weight), ...Object.fromEntries(metrics) }, state, perSample };
}

/** Where in a vector of sums those of a metric are. */
export interface Place {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly compute: Metric['compute'];
}

type Metrics = Readonly<Record<string, Metric>>;

/**
 * The sums of all metrics in one vector: every output that is read back costs.
 *
 * @param parts metrics of the parts of the batch, whose sums are added
 * @param whole metrics of the whole batch
 */
export function packMetrics(fn: string, parts: readonly Metrics[], whole: Metrics = {}): { packed: Tensor; places: readonly Place[] } {
  const places: Place[] = [];
  const vectors: Tensor[] = [];
  const put = (name: string, { sums, compute }: Metric): void => {
    const from = places.at(-1)?.to ?? 0;
    places.push({ name, from, to: from + (sums.shape[0] as number), compute });
    vectors.push(sums);
  };
  // The loss comes first; in records names like '0' do.
  for (const name of new Set([LOSS, ...parts.flatMap(Object.keys)])) {
    const found = parts.map((part) => lookUp(part, name));
    const [metric] = found as [Metric];
    if (!found.every((other) => other && sameShape(other.sums.shape, metric.sums.shape))) {
      throw new Error(`${fn}: metric '${name}' is not the same in every part of the batch`);
    }
    put(name, { ...metric, sums: found.map((other) => (other as Metric).sums).reduce((a, b) => add(a, b)) });
  }
  for (const [name, metric] of Object.entries(whole)) {
    if (parts.some((part) => Object.hasOwn(part, name))) {
      throw new TypeError(`${fn}: the gradient strategy reports a metric '${name}', and so does the loss function`);
    }
    put(name, metric);
  }
  return { packed: concat(vectors), places };
}

/** Loss and metrics from their sums. */
export function unpackMetrics(places: readonly Place[], sums: readonly number[]): { loss: number; metrics: Record<string, number> } {
  const values = places.map(({ name, from, to, compute }) => [name, compute(sums.slice(from, to))] as const);
  const [[, loss], ...metrics] = values as [readonly [string, number], ...(readonly [string, number])[]];
  return { loss, metrics: Object.fromEntries(metrics) };
}
