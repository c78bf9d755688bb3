import { crossEntropyLoss, mseLoss } from '../../src/losses/index.js';
import { type Adapter, loss } from './adapter.js';

export const losses: Readonly<Record<string, Adapter>> = {
  'loss-cross-entropy': loss(crossEntropyLoss, ['logits', 'target']),
  'loss-mse': loss(mseLoss, ['input', 'target']),
};
