import { describe, expect, it } from 'vitest';
import { broadcastShapes, checkShape, normalizeAxes, normalizeAxis, sameShape, sizeOf } from '../../src/core/shape.js';

describe('shapes', () => {
  it('have a size', () => {
    expect([sizeOf([]), sizeOf([2, 3]), sizeOf([2, 0, 3])]).toEqual([1, 6, 0]);
  });

  it('are compared', () => {
    expect(sameShape([2, 3], [2, 3])).toBe(true);
    expect([sameShape([2, 3], [3, 2]), sameShape([2], [2, 1]), sameShape([2, 1], [2])]).toEqual([false, false, false]);
  });

  it.each([
    [[], [], []],
    [[2, 3], [3], [2, 3]],
    [
      [2, 1],
      [1, 4],
      [2, 4],
    ],
    [[5], [3, 1, 5], [3, 1, 5]],
    [
      [0, 3],
      [1, 3],
      [0, 3],
    ],
    [[1], [0], [0]],
    [[2], [3], undefined],
    [[2, 0], [2, 3], undefined],
  ])('%j and %j broadcast to %j', (a, b, result) => {
    expect(broadcastShapes(a, b)).toEqual(result);
    expect(broadcastShapes(b, a)).toEqual(result);
  });

  it('are checked', () => {
    expect(() => checkShape('fn', 'shape', [2, 0])).not.toThrow();
    expect(() => checkShape('fn', 'shape', [2, -1])).toThrow(
      new TypeError('fn: shape: expected a list of integers >= 0, received [2, -1]'),
    );
    expect(() => checkShape('fn', 'shape', [1.5])).toThrow(new TypeError('fn: shape: expected a list of integers >= 0, received [1.5]'));
    expect(() => checkShape('fn', 'shape', 3)).toThrow(new TypeError('fn: shape: expected a list of integers >= 0, received 3'));
  });
});

describe('axes', () => {
  it('are counted from both ends', () => {
    expect([normalizeAxis('fn', 0, 3), normalizeAxis('fn', -1, 3), normalizeAxis('fn', -3, 3)]).toEqual([0, 2, 0]);
    expect(normalizeAxes('fn', [-1, 0], 3)).toEqual([0, 2]);
    expect(normalizeAxes('fn', undefined, 2)).toEqual([0, 1]);
    expect(normalizeAxes('fn', 1, 2)).toEqual([1]);
    expect(normalizeAxes('fn', [], 2)).toEqual([]);
  });

  it('are checked', () => {
    expect(() => normalizeAxis('fn', 2, 2)).toThrow(new RangeError('fn: axis: expected an axis of a rank-2 Tensor, received 2'));
    expect(() => normalizeAxis('fn', -3, 2)).toThrow(new RangeError('fn: axis: expected an axis of a rank-2 Tensor, received -3'));
    expect(() => normalizeAxis('fn', '0', 2)).toThrow(new TypeError("fn: axis: expected an integer, received '0'"));
    expect(() => normalizeAxes('fn', [0, -2], 2)).toThrow(new RangeError('fn: axis: expected axes without repetition, received [0, -2]'));
  });
});
