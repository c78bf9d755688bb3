import { wrongType } from '../core/errors.js';
import type { RefreshContext } from './gradients.js';
import type { Transform } from './transform.js';

/**
 * Transforms one after the other: each gets the updates of the one before.
 *
 * Slots of the state keep their names; one that occurs a second time gets a number (`momentum`, `momentum2`).
 *
 * @example
 * ```ts
 * import { addDecayedWeights, chain, scaleByAdam, scaleByLearningRate } from 'tracegrad/optim';
 *
 * const adamW = chain(scaleByAdam(), addDecayedWeights({ weightDecay: 0.01 }), scaleByLearningRate(1e-3));
 * ```
 */
export function chain(...transforms: readonly Transform[]): Transform {
  transforms.forEach((item, i) => {
    if (typeof item?.update !== 'function') throw wrongType('chain', `argument ${i}`, 'a gradient transform', item);
  });
  const used = new Set<string>();
  // For every transform: its own slot names to those in the whole state.
  const renames = transforms.map(
    ({ slots }) =>
      new Map(
        slots.map((name) => {
          let free = name;
          for (let n = 2; used.has(free); n++) free = `${name}${n}`; // a chain inside may have numbered its slots already
          used.add(free);
          return [name, free];
        }),
      ),
  );
  const translate = <V>(state: Readonly<Record<string, V>>, names: ReadonlyMap<string, string>): Readonly<Record<string, V>> =>
    Object.fromEntries(
      Object.entries(state).flatMap(([key, value]) => {
        const [head = '', ...rest] = key.split('.');
        const name = names.get(head);
        return name === undefined ? [] : [[[name, ...rest].join('.'), value]];
      }),
    );
  const outward = <V>(state: Readonly<Record<string, V>>, i: number) => translate(state, renames[i] as ReadonlyMap<string, string>);
  const inward = <V>(state: Readonly<Record<string, V>>, i: number) =>
    translate(state, new Map([...(renames[i] as Map<string, string>)].map(([a, b]) => [b, a])));
  const [gradients, another] = transforms.flatMap((item) => item.gradients ?? []);
  if (another) throw new TypeError('chain: two of the transforms ask for a gradient strategy of their own; a step has one');
  return {
    ...(gradients ? { gradients } : {}),
    learningRates: transforms.flatMap((item) => item.learningRates ?? []),
    refreshes: transforms.flatMap(({ refreshes = [] }, i) =>
      refreshes.map((refresh) => ({
        ...refresh,
        compute: async (context: RefreshContext) => {
          const state = inward(context.state, i);
          const fresh = await refresh.compute({ ...context, state });
          const unknown = Object.keys(fresh).find((name) => !Object.hasOwn(state, name));
          if (unknown !== undefined) throw new TypeError(`chain: refresh: '${unknown}' is no entry of the state of argument ${i}`);
          return outward(fresh, i);
        },
      })),
    ),
    slots: renames.flatMap((names) => [...names.values()]),
    init: (params) => Object.assign({}, ...transforms.map((item, i) => outward(item.init(params), i))),
    update: (updates, state, params, extra) =>
      transforms.reduce(
        (done, item, i) => {
          const next = item.update(done.updates, inward(state, i), params, extra);
          return { updates: next.updates, state: { ...done.state, ...outward(next.state, i) } };
        },
        { updates, state },
      ),
  };
}
