export {
  type CgLoraConditions,
  type CgLoraLinearOptions,
  type CgLoraLinearParams,
  cgLoraLinear,
  type InitCgLoraLinearOptions,
  initCgLoraLinear,
} from './cg-lora-linear.js';
export {
  type ConvParams,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
  type InitConvOptions,
  initConv1d,
  initConv2d,
  initConv3d,
  initConvTranspose1d,
  initConvTranspose2d,
  initConvTranspose3d,
} from './conv.js';
export { type DropoutOptions, dropout } from './dropout.js';
export { type EmbeddingParams, embedding, initEmbedding } from './embedding.js';
export {
  type HeOptions,
  heNormal,
  heUniform,
  lecunNormal,
  normal,
  orthogonal,
  type TruncatedNormalOptions,
  truncatedNormal,
  uniform,
  type WeightAndBias,
  xavierNormal,
  xavierUniform,
} from './init.js';
export { initLinear, type LinearParams, linear } from './linear.js';
export type { InitLoraOptions, LoraOptions, LoraParams } from './lora.js';
export { initLoraConv2d, type LoraConv2dOptions, type LoraConv2dParams, loraConv2d } from './lora-conv2d.js';
export { initLoraEmbedding, type LoraEmbeddingParams, loraEmbedding } from './lora-embedding.js';
export { initLoraLinear, type LoraLinearOptions, type LoraLinearParams, loraLinear } from './lora-linear.js';
export { type MergeLoraOptions, mergeLora } from './merge-lora.js';
export { type MultiSampleDropoutOptions, multiSampleDropout } from './multi-sample-dropout.js';
export { reversibleBlock, reversibleBlockInverse } from './reversible-block.js';
export {
  type Reversible,
  type ReversibleFunctions,
  type ReversibleLike,
  type ReversibleResult,
  type ReversibleState,
  type ReversibleValue,
  reversibleSequence,
} from './reversible-sequence.js';
export { initSelfAttention, type SelfAttentionOptions, type SelfAttentionParams, selfAttention } from './self-attention.js';
