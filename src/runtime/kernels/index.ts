export type { KernelHostInput } from './analysis.js';
export { createKernels, type KernelOptions, type Kernels } from './kernels.js';
export { allocateMemory, fitsMemory, type KernelMemory, type MemoryOptions } from './memory.js';
export { planUpdate, type Update, type UpdatePlan } from './plan.js';
