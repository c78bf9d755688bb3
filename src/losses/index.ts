export { type CrossEntropyLossOptions, crossEntropyLoss } from './cross-entropy-loss.js';
export { type MseLossOptions, mseLoss } from './mse-loss.js';
export type { Reduction } from './reduction.js';
