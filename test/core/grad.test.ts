import { describe, expect, expectTypeOf, it } from 'vitest';
import { sizeOf } from '../../src/core/shape.js';
import {
  add,
  broadcastTo,
  cast,
  createRng,
  exp,
  full,
  grad,
  gradients,
  greater,
  matmul,
  mean,
  mul,
  reshape,
  type Shape,
  split,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
  valueAndGrad,
  vjp,
  where,
  zeros,
} from '../../src/index.js';
import { checkGradient } from '../support/differences.js';
import { normal } from '../support/draw.js';
import { leaf, numbersOf, valuesOf } from '../support/leaves.js';
import { op, testOps } from '../support/test-ops.js';

describe('what is differentiated', () => {
  const ones = (count: number) => Array<number>(count).fill(1);

  // Rewriting must not take Tensors out of a program that gradients are asked for.
  it.each<[string, (x: Tensor) => Tensor, (h: Tensor) => Tensor]>([
    ['reshaped', (x) => reshape(x, [3, 1]), (h) => reshape(h, [1, 3])],
    ['transposed', (x) => transpose(reshape(x, [3, 1])), (h) => transpose(h)],
    ['repeated', (x) => broadcastTo(x, [2, 3]), (h) => mul(h, 1)],
    ['summed up', (x) => sum(x, { axis: 0 }), (h) => reshape(h, [1, 1])],
    ['a constant', () => zeros([3]), (h) => mul(h, 1)],
    ['used in two forms', (x) => reshape(x, [3, 1]), (h) => matmul(reshape(h, [1, 3]), h)],
  ])('may be %s', (name, make, use) => {
    const x = leaf([3]);
    const h = make(x);
    const [dh] = gradients(sum(use(h)), [h]);
    const expected = name === 'used in two forms' ? [2, 4, 6] : ones(sizeOf(h.shape));
    expect(numbersOf([dh as Tensor], [[x, [1, 2, 3]]])).toEqual([expected]);
  });

  it('is the argument, not the same Tensor elsewhere', () => {
    const x = leaf([2]);
    const at = (y: Tensor) => numbersOf([y], [[x, [3, 5]]])[0];
    expect(at(grad((a: Tensor, b: Tensor) => sum(mul(a, b)))(x, x))).toEqual([3, 5]);
    expect(at(grad((a: Tensor) => sum(mul(a, x)))(x))).toEqual([3, 5]);
    const { a, b } = grad((p: { a: Tensor; b: Tensor }) => sum(mul(p.a, square(p.b))))({ a: x, b: x });
    expect([at(a), at(b)]).toEqual([
      [9, 25],
      [18, 50],
    ]);
    const [da, db] = vjp((p: Tensor, q: Tensor) => mul(p, square(q)), x, x)[1](full([2], 1));
    expect([at(da), at(db)]).toEqual([
      [9, 25],
      [18, 50],
    ]);
  });
});

describe('grad', () => {
  it('differentiates with respect to the first argument', () => {
    const [x, y] = [leaf([2]), leaf([2])];
    const dx = grad((a: Tensor, b: Tensor) => sum(mul(square(a), b)))(x, y);
    expect(
      numbersOf(
        [dx],
        [
          [x, [1, 2]],
          [y, [3, 5]],
        ],
      ),
    ).toEqual([[6, 20]]);
  });

  it('differentiates with respect to another argument', () => {
    const [x, y] = [leaf([2]), leaf([2])];
    const dy = grad((a: Tensor, b: Tensor) => sum(mul(square(a), b)), { argnum: 1 })(x, y);
    expectTypeOf(dy).toEqualTypeOf<Tensor>();
    expect(
      numbersOf(
        [dy],
        [
          [x, [1, 2]],
          [y, [3, 5]],
        ],
      ),
    ).toEqual([[1, 4]]);
  });

  it('returns a tree like the argument', () => {
    const params = {
      layers: [
        { w: leaf([1, 2]), b: leaf([2]) },
        { w: leaf([2, 1]), b: leaf([1]) },
      ],
      scale: leaf(),
    };
    const loss = (p: typeof params, x: Tensor) => {
      const hidden = p.layers.reduce((h, { w, b }) => tanh(add(matmul(h, w), b)), x);
      return sum(mul(hidden, p.scale));
    };
    const gradient = grad(loss)(params, leaf([3, 1]));
    expectTypeOf(gradient).toEqualTypeOf<typeof params>();
    expect(Object.keys(gradient)).toEqual(['layers', 'scale']);
    expect(gradient.layers.map(({ w, b }) => [w.shape, b.shape])).toEqual([
      [[1, 2], [2]],
      [[2, 1], [1]],
    ]);
    expect(gradient.scale.shape).toEqual([]);
  });

  it('gives zeros to what the loss does not reach', () => {
    const params = { used: leaf([2]), unused: leaf([2, 3]), half: leaf([2], 'float16') };
    const gradient = grad((p: typeof params) => sum(p.used))(params);
    expect([gradient.unused.shape, gradient.half.dtype]).toEqual([[2, 3], 'float16']);
    expect(numbersOf([gradient.used, gradient.unused, gradient.half])).toEqual([
      [1, 1],
      [0, 0, 0, 0, 0, 0],
      [0, 0],
    ]);
  });

  it('gives zeros where everything is cut off', () => {
    const x = leaf([2]);
    const f = (a: Tensor) => add(sum(cast(greater(a, 0), 'float32')), sum(cast(cast(a, 'int32'), 'float32')));
    expect(numbersOf([grad(f)(x)], [[x, [1.5, -2]]])).toEqual([[0, 0]]);
  });

  it('has the dtype of the parameter', () => {
    const x = leaf([2], 'float16');
    const dx = grad((a: Tensor) => sum(cast(a, 'float32')))(x);
    expect(dx.dtype).toBe('float16');
    const y = leaf([2], 'float16');
    expect(grad((a: Tensor) => sum(square(a)))(y).dtype).toBe('float16');
  });
});

describe('valueAndGrad', () => {
  it('returns the value too', () => {
    const x = leaf([2]);
    const [value, dx] = valueAndGrad((a: Tensor) => sum(square(a)))(x);
    expect(numbersOf([value, dx], [[x, [3, -1]]])).toEqual([[10], [6, -2]]);
  });

  it('passes an auxiliary result through', () => {
    const [x, y] = [leaf([2]), leaf([2])];
    const f = (a: Tensor, b: Tensor) => [sum(mul(a, b)), { mean: mean(a), note: 'kept' }] as const;
    const [[loss, aux], dy] = valueAndGrad(f, { hasAux: true, argnum: 1 })(x, y);
    expect(aux.note).toBe('kept');
    expect(
      numbersOf(
        [loss, aux.mean, dy],
        [
          [x, [3, -1]],
          [y, [2, 2]],
        ],
      ),
    ).toEqual([[4], [1], [3, -1]]);
  });
});

describe('gradients', () => {
  it('adds up what several uses contribute', () => {
    const x = leaf([2]);
    const f = add(sum(mul(x, x)), add(sum(mul(x, 5)), sum(sub(3, x))));
    expect(numbersOf(gradients(f, [x]), [[x, [0, 1]]])).toEqual([[4, 6]]);
  });

  it('counts every Tensor as independent of the others', () => {
    const x = leaf([2]);
    const y = square(x);
    const f = sum(mul(y, x));
    expect(numbersOf(gradients(f, [x]), [[x, [2, 3]]])).toEqual([[12, 27]]);
    expect(numbersOf(gradients(f, [x, y]), [[x, [2, 3]]])).toEqual([
      [4, 9],
      [2, 3],
    ]);
    expect(numbersOf(gradients(f, [y, y]), [[x, [2, 3]]])).toEqual([
      [2, 3],
      [2, 3],
    ]);
  });

  it('reaches outputs of a node with several', () => {
    const x = leaf([4]);
    const [a, b] = split(square(x), 2) as [Tensor, Tensor];
    expect(numbersOf(gradients(sum(mul(a, b)), [b, x]), [[x, [1, 2, 3, 4]]])).toEqual([
      [1, 4],
      [2 * 9, 4 * 16, 0, 0],
    ]);
    expect(numbersOf(gradients(sum(mul(a, b)), [x]), [[x, [1, 2, 3, 4]]])).toEqual([[2 * 9, 4 * 16, 6 * 1, 8 * 4]]);
  });

  it('of a Tensor with respect to itself is 1', () => {
    const x = leaf();
    expect(numbersOf(gradients(x, [x]))).toEqual([[1]]);
  });

  it('of nothing is nothing', () => {
    expect(gradients(leaf(), [])).toEqual([]);
  });
});

/** A two-layer perceptron with its parameters as a list, and values for everything. */
function perceptron() {
  const shapes: Shape[] = [[4, 3], [3, 5], [5], [5, 2], [2]];
  const leaves = shapes.map((shape) => leaf(shape));
  const rng = createRng(11);
  const values = valuesOf(leaves.map((x) => [x, Array.from({ length: sizeOf(x.shape) }, () => rng.normal())]));
  const [x, ...params] = leaves as [Tensor, ...Tensor[]];
  const loss = (p: readonly Tensor[]) => {
    const [w1, b1, w2, b2] = p as [Tensor, Tensor, Tensor, Tensor];
    return mean(square(add(matmul(tanh(add(matmul(x, w1), b1)), w2), b2)));
  };
  const direction = params.map(({ shape }) => leaf(shape));
  for (const v of direction) {
    values.set(v, { shape: v.shape, data: Float64Array.from({ length: sizeOf(v.shape) }, () => rng.normal()) });
  }
  return { x, params, loss, values, direction, rng };
}

const dot = (a: readonly Tensor[], b: readonly Tensor[]): Tensor =>
  a.map((x, i) => sum(mul(x, b[i] as Tensor))).reduce((p, q) => add(p, q));

describe('derivatives of a perceptron', () => {
  it('agree with differences', () => {
    const { params, loss, values, rng } = perceptron();
    const value = loss(params);
    checkGradient(value, gradients(value, params), params, values, rng);
  });

  it('include products of the Hessian with a vector', () => {
    const { params, loss, values, direction, rng } = perceptron();
    const along = dot(gradients(loss(params), params), direction);
    checkGradient(along, gradients(along, params), params, values, rng);
  });

  it('include third derivatives', () => {
    const { params, loss, values, direction, rng } = perceptron();
    const along = dot(gradients(loss(params), params), direction);
    const twice = dot(gradients(along, params), direction);
    checkGradient(twice, gradients(twice, params), params, values, rng);
  });

  it('include those of a gradient penalty', () => {
    const { x, params, loss, values, rng } = perceptron();
    const [dx] = gradients(loss(params), [x]) as [Tensor];
    const penalty = square(sub(sum(square(dx)), 1));
    checkGradient(penalty, gradients(penalty, params), params, values, rng);
  });
});

describe('vjp', () => {
  it('pulls a cotangent back', () => {
    const [x, v] = [leaf([2]), leaf([2])];
    const [y, pullback] = vjp((a: Tensor) => square(a), x);
    const [dx] = pullback(v);
    expect(
      numbersOf(
        [y, dx],
        [
          [x, [3, 4]],
          [v, [1, 10]],
        ],
      ),
    ).toEqual([
      [9, 16],
      [6, 80],
    ]);
  });

  it('takes and returns trees', () => {
    const params = { a: leaf([2]), b: [leaf([2])] as [Tensor] };
    const x = leaf([2]);
    const [outputs, pullback] = vjp(
      (p: typeof params, t: Tensor) => ({ product: mul(p.a, p.b[0]), rest: [sum(t)] as [Tensor] }),
      params,
      x,
    );
    const [dp, dx] = pullback({ product: leaf([2]), rest: [leaf()] });
    expectTypeOf(dp).toEqualTypeOf<typeof params>();
    const cotangents = { product: add(x, 0), rest: [sum(x)] as [Tensor] };
    const [p, t] = pullback(cotangents);
    expect(outputs.product.shape).toEqual([2]);
    expect([dp.a.shape, dp.b[0].shape, dx.shape]).toEqual([[2], [2], [2]]);
    const values = [
      [params.a, [1, 2]],
      [params.b[0], [3, 4]],
      [x, [5, 6]],
    ] as const;
    expect(numbersOf([p.a, p.b[0], t], values)).toEqual([
      [15, 24],
      [5, 12],
      [11, 11],
    ]);
  });

  it('gives zeros to arguments that do not matter', () => {
    const [x, y] = [leaf([2]), leaf([3])];
    const [, pullback] = vjp((a: Tensor, _: Tensor) => exp(a), x, y);
    expect(numbersOf([pullback(x)[1]], [[x, [0, 0]]])).toEqual([[0, 0, 0]]);
  });

  it('checks cotangents', () => {
    const [y, pullback] = vjp((a: Tensor) => ({ y: square(a) }), leaf([2]));
    expect(y.y.shape).toEqual([2]);
    expect(() => pullback({ y: leaf([3]) })).toThrow(
      new RangeError('vjp: cotangent y: expected float32[2], like the output, received float32[3]'),
    );
    expect(() => pullback({ y: leaf([2], 'int32') })).toThrow(
      new RangeError('vjp: cotangent y: expected float32[2], like the output, received int32[2]'),
    );
    expect(() => pullback({} as { y: Tensor })).toThrow(
      new RangeError('vjp: cotangent y: expected float32[2], like the output, received undefined'),
    );
    const [, ofOne] = vjp((a: Tensor) => square(a), leaf([2]));
    expect(() => ofOne(leaf([3]))).toThrow(new RangeError('vjp: the cotangent: expected float32[2], like the output, received float32[3]'));
  });
});

describe('stopGradient', () => {
  it('is a constant for differentiation, at every order', () => {
    const x = leaf([2]);
    const f = sum(mul(stopGradient(square(x)), x));
    const [dx] = gradients(f, [x]) as [Tensor];
    const [ddx] = gradients(sum(dx), [x]) as [Tensor];
    expect(numbersOf([f, dx, ddx], [[x, [2, 3]]])).toEqual([[35], [4, 9], [0, 0]]);
  });

  it('does not touch other paths', () => {
    const x = leaf([2]);
    expect(numbersOf(gradients(sum(add(stopGradient(x), mul(x, 3))), [x]))).toEqual([[3, 3]]);
  });
});

describe('where', () => {
  it('keeps gradients finite where both sides are guarded', () => {
    const x = leaf([2]);
    const ok = greater(x, 0);
    const guarded = where(ok, exp(where(ok, x, 1)), 0);
    expect(numbersOf(gradients(sum(guarded), [x]), [[x, [-1e9, 0.5]]])[0]).toEqual([0, Math.exp(0.5)]);
  });
});

const twice = (f: (x: Tensor) => Tensor) => (x: Tensor) => grad((a: Tensor) => sum(square(f(a))))(x);

testOps(
  {},
  [
    op('gradients inside of a compiled function', [normal([3, 2])], twice(tanh)),
    op('gradients of gradients inside of a compiled function', [normal([3, 2])], twice(twice(tanh)), { order: 1 }),
    op('stopGradient in a compiled function', [normal([3])], (x) => [stopGradient(x), stopGradient(stopGradient(exp(x)))], { order: 0 }),
  ],
  [],
);
