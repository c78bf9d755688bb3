export {
  initLayerNorm,
  type LayerNormOptions,
  type LayerNormParams,
  type LayerNormResult,
  layerNorm,
  layerNormWithStatistics,
} from './layer-norm.js';
