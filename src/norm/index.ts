export {
  type BatchChannelNormOptions,
  type BatchChannelNormParams,
  batchChannelNorm,
  initBatchChannelNorm,
} from './batch-channel-norm.js';
export { type BatchNormMode, type BatchNormOptions, batchNorm, initBatchNorm, type RunningStatsOptions } from './batch-norm.js';
export { type BatchRenormOptions, type BatchRenormState, batchRenorm, initBatchRenorm } from './batch-renorm.js';
export { type BatchStats, batchStats, mergeBatchStats } from './batch-stats.js';
export type { ChannelParams } from './channels.js';
export { type EstimatedBatchNormOptions, estimatedBatchNorm } from './estimated-batch-norm.js';
export { type GhostBatchNormOptions, ghostBatchNorm } from './ghost-batch-norm.js';
export { type GroupNormOptions, groupNorm, initGroupNorm } from './group-norm.js';
export { type InstanceNormOptions, initInstanceNorm, instanceNorm } from './instance-norm.js';
export {
  initLayerNorm,
  type LayerNormOptions,
  type LayerNormParams,
  type LayerNormResult,
  layerNorm,
  layerNormWithStatistics,
} from './layer-norm.js';
export {
  absorbScale,
  initNonScalingLayerNorm,
  type NonScalingLayerNormParams,
  nonScalingLayerNorm,
} from './non-scaling-layer-norm.js';
export { type PatchBatchNormOptions, patchBatchNorm } from './patch-batch-norm.js';
export { initQkNorm, type QkNormOptions, type QkNormParams, type QkNormResult, qkNorm } from './qk-norm.js';
export { initRmsNorm, type RmsNormOptions, type RmsNormParams, type RmsNormResult, rmsNorm, rmsNormWithStatistics } from './rms-norm.js';
export type { BatchNormState, RunningVarEstimator } from './running-stats.js';
export { adaptableNormParams, type ParameterInfo, selectTrainable, type Trainable } from './select-trainable.js';
export {
  type BatchNormWithStatsOptions,
  batchNormWithStats,
  type SyncBatchNormOptions,
  syncBatchNorm,
  updateRunningStats,
} from './sync-batch-norm.js';
export {
  type StandardizedConvOptions,
  type StandardizedConvParams,
  standardizedConv,
  type WeightStandardizationOptions,
  weightStandardization,
} from './weight-standardization.js';
