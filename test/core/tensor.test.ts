import { beforeAll, describe, expect, it, vi } from 'vitest';
import * as tracegrad from '../../src/index.js';
import { leaf } from '../support/leaves.js';

const { add, compile, concat, customVjp, grad, mean, sum, where } = tracegrad;

describe('a second copy of the package', () => {
  let other: typeof tracegrad;
  let foreign: tracegrad.Tensor;
  beforeAll(async () => {
    vi.resetModules();
    other = await import('../../src/index.js');
    foreign = other.zeros([2]);
  });

  it('is another copy', () => {
    expect(other.add).not.toBe(add);
    expect(foreign).toMatchObject({ shape: [2], dtype: 'float32' });
  });

  const error = new TypeError(
    'tracegrad is loaded twice: a Tensor made by one copy of the package was given to the other. Check for two installed versions (npm ls tracegrad) or a mix of bundled and unbundled imports.',
  );

  it.each<[string, (x: tracegrad.Tensor) => unknown]>([
    ['an argument', (x) => sum(x)],
    ['a left operand', (x) => add(x, 1)],
    ['a right operand', (x) => add(leaf([2]), x)],
    ['an element of a list', (x) => concat([leaf([2]), x])],
    ['a branch', (x) => where(leaf([2], 'bool'), 0, x)],
    ['a parameter', (x) => grad((p: { w: tracegrad.Tensor }) => sum(p.w))({ w: x })],
    ['a loss', (x) => grad((_: tracegrad.Tensor) => x)(leaf([2]))],
    ['an output of a customVjp', (x) => customVjp('f', { forward: () => ({ outputs: [x] }), backward: () => [] })()],
  ])('is noticed in %s', (_, use) => {
    expect(() => use(foreign)).toThrow(error);
  });

  it('is noticed in what a compiled function returns', async () => {
    const { createBackend } = await import('../../src/node.js');
    await using backend = await createBackend({ device: 'cpu' });
    await expect(other.compile(backend, () => leaf([2]))()).rejects.toThrow(error);
    expect(() => compile(backend, () => mean(leaf([2])))).toThrow(
      new TypeError('compile: backend: expected a backend made by createBackend() of this copy of tracegrad'),
    );
  });
});
