export { type Metric, meanOf } from './metrics/metric.js';
export type { LossContext, LossResult } from './outcome.js';
export type { Snapshot, Snapshotable } from './snapshot.js';
export { createTrainer, type Predictor, type Report, type Trainer, type TrainerOptions } from './trainer.js';
