import { array, matmul, type Tensor } from '../../src/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { sgd } from '../../src/optim/index.js';
import { createTrainer } from '../../src/train/index.js';

export type Params = { w: Tensor };
export type Batch = { x: Tensor; y: Tensor };

const predict = ({ w }: Params, x: Tensor): Tensor => matmul(x, w);

/** A trainer of two weights on a CPU backend of its own. */
export const createRegression = async () =>
  createTrainer(await createBackend({ device: 'cpu', threads: 1 }), {
    loss: (p: Params, { x, y }: Batch) => mseLoss(predict(p, x), y),
    predict,
    params: { w: array([[1], [2]]) },
    optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }),
  });
