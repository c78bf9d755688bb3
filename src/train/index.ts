export { load, type SaveOptions, save } from './checkpoint.js';
export { type CompiledUpdate, compileUpdate, type DeepPartial } from './compile-update.js';
export { type LoadWeightsOptions, type LoadWeightsResult, loadWeights } from './load-weights.js';
export { type LossWithGrad, type LossWithGradOptions, lossWithGrad } from './loss-with-grad.js';
export { accuracy } from './metrics/accuracy.js';
export type { ClassOptions } from './metrics/class-counts.js';
export { type F1ScoreOptions, f1Score } from './metrics/f1-score.js';
export type { LabelOptions, ScoreOptions } from './metrics/labels.js';
export { type MeanIoUOptions, meanIoU } from './metrics/mean-iou.js';
export { type Metric, meanOf } from './metrics/metric.js';
export { perplexity } from './metrics/perplexity.js';
export { type RecallAtKOptions, recallAtK } from './metrics/recall-at-k.js';
export { type TopKAccuracyOptions, topKAccuracy } from './metrics/top-k-accuracy.js';
export type { LossContext, LossResult } from './outcome.js';
export { decodeSafetensors, encodeSafetensors, type Safetensors } from './safetensors.js';
export type { Snapshot, Snapshotable } from './snapshot.js';
export { createTrainer, type Predictor, type Report, type Trainer, type TrainerOptions } from './trainer.js';
export {
  connectWorker,
  type Remote,
  serveWorker,
  type WorkerConnection,
  type WorkerFunctions,
  type WorkerPort,
  type WorkerServer,
} from './worker.js';
