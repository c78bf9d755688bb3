import { describe, expect, it } from 'vitest';
import {
  add,
  customVjp,
  exp,
  gather,
  gradients,
  greater,
  hostInput,
  mul,
  reshape,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  where,
} from '../../src/index.js';
import { normal } from '../support/draw.js';
import { leaf, numbersOf } from '../support/leaves.js';
import { op, testOps } from '../support/test-ops.js';

/** `a b`, with a backward rule that gives 10 and 100 times the true gradients, to tell it from the derived one. */
const marked = customVjp<[Tensor, Tensor]>('marked', {
  forward: (a, b) => ({ outputs: [mul(a, b)], residuals: [mul(a, 100), mul(b, 10)] }),
  backward: ({ cotangents: [g], residuals }) => [mul(g as Tensor, residuals[1] as Tensor), mul(g as Tensor, residuals[0] as Tensor)],
});

/** x^3 by its own rule, which uses inputs and outputs. */
const cube = customVjp<[Tensor]>('cube', {
  forward: (x) => ({ outputs: [mul(square(x), x)] }),
  backward: ({ cotangents: [g], inputs: [x] }) => [mul(g as Tensor, mul(square(x), 3))],
});

const one = (outputs: readonly Tensor[]): Tensor => outputs[0] as Tensor;

describe('customVjp', () => {
  it('uses its own rule', () => {
    const [a, b] = [leaf([2]), leaf([2])];
    const y = one(marked(a, b));
    const values = [
      [a, [2, 3]],
      [b, [5, 7]],
    ] as const;
    expect(numbersOf([y, ...gradients(sum(y), [a, b])], values)).toEqual([
      [10, 21],
      [50, 70],
      [200, 300],
    ]);
  });

  it('is differentiated again through its rule', () => {
    const x = leaf([2]);
    const [dx] = gradients(sum(one(cube(x))), [x]) as [Tensor];
    const [ddx] = gradients(sum(dx), [x]) as [Tensor];
    const [dddx] = gradients(sum(ddx), [x]) as [Tensor];
    expect(numbersOf([dx, ddx, dddx], [[x, [2, -1]]])).toEqual([
      [12, 3],
      [12, -6],
      [6, 6],
    ]);
  });

  it('is differentiated again through residuals', () => {
    const f = customVjp<[Tensor]>('f', {
      forward: (x) => ({ outputs: [exp(x)], residuals: [square(x)] }),
      backward: ({ cotangents: [g], residuals: [r] }) => [mul(g as Tensor, r as Tensor)],
    });
    const x = leaf([1]);
    const [dx] = gradients(sum(one(f(x))), [x]) as [Tensor];
    expect(numbersOf([dx, ...gradients(sum(dx), [x])], [[x, [3]]])).toEqual([[9], [6]]);
  });

  it('sees which outputs have a cotangent', () => {
    const seen: boolean[][] = [];
    const pair = customVjp<[Tensor]>('pair', {
      forward: (x) => ({ outputs: [mul(x, 2), mul(x, 3)] }),
      backward: ({ cotangents }) => {
        seen.push(cotangents.map((g) => g !== undefined));
        return [cotangents.reduce<Tensor | undefined>((sofar, g, i) => (g ? add(sofar ?? 0, mul(g, i + 2)) : sofar), undefined)];
      },
    });
    const x = leaf([1]);
    const [two, three] = pair(x) as [Tensor, Tensor];
    expect(numbersOf(gradients(sum(two), [x]))).toEqual([[2]]);
    expect(numbersOf(gradients(sum(three), [x]))).toEqual([[3]]);
    expect(numbersOf(gradients(sum(add(two, three)), [x]))).toEqual([[5]]);
    expect(seen).toEqual([
      [true, false],
      [false, true],
      [true, true],
    ]);
  });

  it('takes undefined for a gradient of 0', () => {
    const f = customVjp<[Tensor, Tensor]>('f', {
      forward: (a, b) => ({ outputs: [mul(a, b)] }),
      backward: ({ cotangents }) => [undefined, cotangents[0]],
    });
    const [a, b] = [leaf([1]), leaf([1])];
    expect(numbersOf(gradients(sum(one(f(a, b))), [a, b]))).toEqual([[0], [1]]);
  });

  it('sees which cotangents are wanted', () => {
    const seen: (readonly boolean[])[] = [];
    const product = customVjp<[Tensor, Tensor, Tensor]>('product', {
      forward: (a, b, c) => ({ outputs: [mul(mul(a, b), c)], residuals: [a] }),
      backward: ({ cotangents: [g], wanted }) => {
        seen.push(wanted);
        return [g, g, g];
      },
    });
    const [a, b, c] = [leaf([1]), leaf([1]), leaf([1])];
    expect(numbersOf(gradients(sum(one(product(exp(a), b, c))), [a, c]), [[a, [0]]])).toEqual([[1], [1]]);
    gradients(sum(one(product(a, b, stopGradient(b)))), [b]);
    expect(seen).toEqual([
      [true, false, true],
      [false, true, false],
    ]);
  });

  it('may return an input as it is', () => {
    const scaled = customVjp<[Tensor]>('scaled', {
      forward: (x) => ({ outputs: [x] }),
      backward: ({ cotangents: [g] }) => [mul(g as Tensor, -2)],
    });
    const x = leaf([2]);
    const y = one(scaled(x));
    expect(numbersOf([y, ...gradients(sum(y), [x])], [[x, [1, 2]]])).toEqual([
      [1, 2],
      [-2, -2],
    ]);
  });

  it('runs its rule only for what is differentiated', () => {
    const f = customVjp<[Tensor]>('f', {
      forward: (x) => ({ outputs: [exp(x)] }),
      backward: () => {
        throw new Error('not needed');
      },
    });
    const [x, y] = [leaf([1]), leaf([1])];
    expect(numbersOf(gradients(sum(add(one(f(x)), y)), [y]))).toEqual([[1]]);
  });

  it('may contain another one', () => {
    const outer = customVjp<[Tensor]>('outer', {
      forward: (x) => ({ outputs: cube(x) }),
      backward: ({ cotangents: [g], inputs: [x] }) => [mul(gradients(sum(one(cube(x))), [x])[0] as Tensor, g as Tensor)],
    });
    const x = leaf([1]);
    expect(numbersOf(gradients(sum(one(outer(x))), [x]), [[x, [2]]])).toEqual([[12]]);
  });
});

describe('what a customVjp body may use', () => {
  const using = (other: Tensor) =>
    customVjp<[Tensor]>('using', {
      forward: (x) => ({ outputs: [mul(x, other)] }),
      backward: ({ cotangents }) => [cotangents[0]],
    })(leaf([2]));
  const refused = (name: string) =>
    new Error(
      `customVjp 'using': the forward body uses '${name}', which is not among its inputs, so its gradient would silently be zero; pass it as an input, or through stopGradient()`,
    );

  it('not a value computed from an input outside', () => {
    const x = leaf([2], 'float32', 'weights');
    const h = mul(x, 5);
    const f = customVjp<[Tensor]>('using', {
      forward: (z) => ({ outputs: [mul(z, h)] }),
      backward: ({ cotangents }) => [cotangents[0]],
    });
    expect(() => f(x)).toThrow(refused('weights'));
  });

  it('inputs that were only rearranged', () => {
    const x = leaf([3]);
    const twice = customVjp<[Tensor]>('twice', {
      forward: (z) => ({ outputs: [mul(reshape(z, [3]), 2)] }),
      backward: ({ cotangents: [g] }) => [reshape(g as Tensor, [3, 1])],
    });
    expect(numbersOf([one(twice(reshape(x, [3, 1])))], [[x, [1, 2, 3]]])).toEqual([[2, 4, 6]]);
  });

  it('not an undeclared value, which the error names', () => {
    expect(() => using(leaf([2], 'float32', 'params.w'))).toThrow(refused('params.w'));
    expect(() => using(exp(leaf([2], 'float32', 'params.b')))).toThrow(refused('params.b'));
  });

  it('a value behind stopGradient', () => {
    expect(() => using(stopGradient(leaf([2])))).not.toThrow();
    expect(() => using(stopGradient(exp(leaf([2]))))).not.toThrow();
  });

  it('host inputs, constants and integers', () => {
    expect(() => using(hostInput(() => 1, { shape: [2] }))).not.toThrow();
    const indices = leaf([2], 'int32');
    const lookup = customVjp<[Tensor]>('lookup', {
      forward: (x) => ({ outputs: [gather(x, indices)] }),
      backward: () => [undefined],
    });
    expect(() => lookup(leaf([2]))).not.toThrow();
  });
});

describe('errors of customVjp', () => {
  const withBackward = (back: unknown) => {
    const f = customVjp<[Tensor, Tensor]>('f', {
      forward: (a, b) => ({ outputs: [mul(a, b)] }),
      backward: () => back as Tensor[],
    });
    const [a, b] = [leaf([2]), leaf([2])];
    return () => gradients(sum(one(f(a, b))), [a, b]);
  };

  it.each<[string, unknown, Error]>([
    ['too few cotangents', [leaf([2])], new RangeError("customVjp 'f': backward: expected 2 cotangents, one per input, received 1")],
    [
      'too many cotangents',
      [undefined, undefined, undefined],
      new RangeError("customVjp 'f': backward: expected 2 cotangents, one per input, received 3"),
    ],
    [
      'a cotangent of another shape',
      [undefined, leaf([3])],
      new RangeError("customVjp 'f': backward: expected float32[2] as the cotangent of input 1, received float32[3]"),
    ],
    [
      'a cotangent of another dtype',
      [leaf([2], 'float16'), undefined],
      new RangeError("customVjp 'f': backward: expected float32[2] as the cotangent of input 0, received float16[2]"),
    ],
    ['a number as cotangent', [1, undefined], new TypeError("customVjp 'f': cotangent of input 0: expected a Tensor, received 1")],
    ['no list', undefined, new TypeError("customVjp 'f': backward: expected a list of cotangents, received undefined")],
  ])('%s', (_, back, error) => {
    expect(withBackward(back)).toThrow(error);
  });

  it('inputs and outputs that are no Tensors', () => {
    expect(() => cube(3 as unknown as Tensor)).toThrow(new TypeError("customVjp 'cube': input 0: expected a Tensor, received 3"));
    const bad = customVjp<[Tensor]>('bad', { forward: (x) => ({ outputs: x as unknown as Tensor[] }), backward: () => [undefined] });
    expect(() => bad(leaf([2]))).toThrow(
      new TypeError("customVjp 'bad': forward: expected { outputs, residuals? } with lists of Tensors, received float32[2]"),
    );
  });
});

/** max(x, 0) - 0.1 min(x, 0), with the rule that would be derived. */
const leaky = customVjp<[Tensor]>('leaky', {
  forward: (x) => {
    const positive = greater(x, 0);
    return { outputs: [where(positive, x, mul(x, 0.1)), sub(x, 1)], residuals: [positive] };
  },
  backward: ({ cotangents: [g, h], residuals: [positive] }) => {
    const first = g && where(positive as Tensor, g, mul(g, 0.1));
    return [first && h ? add(first, h) : (first ?? h)];
  },
});

testOps(
  {},
  [
    op('customVjp in a compiled function', [normal([3, 2])], (x) => leaky(x)),
    op('customVjp of a customVjp', [normal([3])], (x) => cube(one(cube(x)))),
    op('customVjp with one output unused', [normal([3])], (x) => leaky(x)[1] as Tensor),
  ],
  [],
);
