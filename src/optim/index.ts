export { applyUpdates } from '../core/updates.js';
export { type AdamOptions, adam } from './adam.js';
export { type AdamwOptions, adamw } from './adamw.js';
export { type AddDecayedWeightsOptions, addDecayedWeights } from './add-decayed-weights.js';
export { chain } from './chain.js';
export {
  accumulatedGradients,
  type Evaluate,
  type Evaluation,
  type EvaluationRequest,
  type Extra,
  type GradientResult,
  type GradientStrategy,
  type HalfGradientsOptions,
  halfGradients,
  type Named,
  type PerturbedGradientsOptions,
  perturbedGradients,
  plainGradients,
  type Refresh,
  type RefreshContext,
} from './gradients.js';
export { type ScaleByAdamOptions, scaleByAdam } from './scale-by-adam.js';
export { type LearningRate, type Schedule, scaleByLearningRate } from './scale-by-learning-rate.js';
export { type SgdOptions, sgd } from './sgd.js';
export { type TraceOptions, trace } from './trace.js';
export { type Mask, type Optimizer, type Rule, type Transform, transform } from './transform.js';
