import { adam, adamw, sgd } from '../../src/optim/index.js';
import { type Adapter, optimizer } from './adapter.js';

export const optim: Readonly<Record<string, Adapter>> = {
  'optim-adam': optimizer(adam),
  'optim-adamw': optimizer(adamw),
  'optim-sgd': optimizer(sgd),
};
