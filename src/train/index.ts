export { load, type SaveOptions, save } from './checkpoint.js';
export { type CompiledUpdate, compileUpdate, type Partially } from './compile-update.js';
export { type LoadWeightsOptions, type LoadWeightsResult, loadWeights } from './load-weights.js';
export { type LossWithGrad, type LossWithGradOptions, lossWithGrad } from './loss-with-grad.js';
export { type Metric, meanOf } from './metrics/metric.js';
export type { LossContext, LossResult } from './outcome.js';
export { decodeSafetensors, encodeSafetensors, type Safetensors } from './safetensors.js';
export type { Snapshot, Snapshotable } from './snapshot.js';
export { createTrainer, type Predictor, type Report, type Trainer, type TrainerOptions } from './trainer.js';
