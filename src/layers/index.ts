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
export { initSelfAttention, type SelfAttentionOptions, type SelfAttentionParams, selfAttention } from './self-attention.js';
