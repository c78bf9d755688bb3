export { type Conv2dParams, conv2d, initConv2d } from './conv2d.js';
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
export { initSelfAttention, type SelfAttentionOptions, type SelfAttentionParams, selfAttention } from './self-attention.js';
