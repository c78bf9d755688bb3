export { load, type SaveOptions, save } from './checkpoint.js';
export { type LoadWeightsOptions, type LoadWeightsResult, loadWeights } from './load-weights.js';
export { decodeSafetensors, encodeSafetensors, type Safetensors } from './safetensors.js';
export type { Snapshot, Snapshotable } from './snapshot.js';
export { createTrainer, type LossContext, type LossResult, type Report, type Trainer, type TrainerOptions } from './trainer.js';
