import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { array, type Backend, matmul, mean, square, sub, type Tensor } from '../../src/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { lossWithGrad } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());

describe('lossWithGrad', () => {
  it('gives the loss as a number and the gradient as an array', async () => {
    await using criterion = lossWithGrad(backend, (logits: Tensor, labels: Tensor) => crossEntropyLoss(logits, labels));
    const { loss, gradient } = await criterion(array([[1, 2, 0.5]]), array([1], { dtype: 'int32' }));
    const powers = [1, 2, 0.5].map(Math.exp);
    const total = powers.reduce((a, b) => a + b);
    expect(loss).toBeCloseTo(Math.log(total) - 2, 6);
    expect(gradient.shape).toEqual([1, 3]);
    expectClose(
      'gradient',
      gradient.data,
      powers.map((p, i) => p / total - (i === 1 ? 1 : 0)),
      1e-5,
    );
  });

  it('differentiates with respect to trees and other arguments, and serves other sizes', async () => {
    const error = (x: Tensor, { w }: { w: Tensor }) => mean(square(sub(matmul(x, w), 1)));
    await using criterion = lossWithGrad(backend, error, { argnum: 1, axes: [['batch']] });
    for (const rows of [2, 5]) {
      const x = array(Array.from({ length: rows }, () => [1, 2]));
      const { loss, gradient } = await criterion(x, { w: array([[1], [1]]) });
      expect(loss).toBeCloseTo(4, 6);
      expectClose('gradient', gradient.w.data, [4, 8], 1e-6);
    }
  });

  it('decodes a float16 loss', async () => {
    const half = lossWithGrad(backend, (x: Tensor) => mean(x));
    expect((await half(array([1, 2], { dtype: 'float16' }))).loss).toBe(1.5);
    await half.close();
    await expect(half(array([1]))).rejects.toThrow('is closed');
  });

  it('refuses what is no function or no option', () => {
    expect(() => lossWithGrad(backend, 1 as never)).toThrow('lossWithGrad: loss: expected a function, received 1');
    expect(() => lossWithGrad(backend, (x: Tensor) => x, { argnums: 1 } as never)).toThrow("unknown option 'argnums'");
    expect(() => lossWithGrad(backend, (x: Tensor) => x, { argnum: -1 })).toThrow('argnum');
  });
});
