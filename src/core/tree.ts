import { show } from './errors.js';

/** Nested arrays and plain objects with `L` at the leaves. */
export type Tree<L> = L | readonly Tree<L>[] | { readonly [key: string]: Tree<L> };

export const isContainer = (value: unknown): value is Record<string, unknown> => {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null;
};

/**
 * Rebuilds a tree with `visit(leaf, path)` at every leaf. Paths are keys and indices joined by dots (`blocks.0.weight`), the
 * root's is `''`. They name parameters and state, so no two may be equal: a flat record whose keys are paths
 * (`{ 'blocks.0.weight': ... }`) is a tree with the same names.
 *
 * @param leaf which values are leaves; whatever is neither a leaf nor a container is an error
 * @param expected what a leaf is, for that error
 */
export function mapTree<L, R>(
  fn: string,
  tree: unknown,
  leaf: (value: unknown) => value is L,
  expected: string,
  visit: (leaf: L, path: string) => R,
): Tree<R> {
  const paths = new Set<string>();
  const walk = (value: unknown, path: string): Tree<R> => {
    if (leaf(value)) {
      if (paths.has(path)) throw new TypeError(`${fn}: two leaves are called '${path}'; paths are names, so they must differ`);
      paths.add(path);
      return visit(value, path);
    }
    if (!isContainer(value)) {
      throw new TypeError(`${fn}: ${path || 'value'}: expected ${expected}, received ${show(value)}`);
    }
    const child = (key: string | number, item: unknown) => walk(item, path === '' ? `${key}` : `${path}.${key}`);
    if (Array.isArray(value)) return value.map((item, index) => child(index, item));
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => {
        if (key === '') throw new TypeError(`${fn}: an empty key in '${path}'; paths are names`);
        return [key, child(key, item)];
      }),
    );
  };
  return walk(tree, '');
}

/** The value of a record's own key; keys are names of other people's things, `toString` among them. */
export const lookUp = <V>(record: Readonly<Record<string, V>>, key: string): V | undefined =>
  Object.hasOwn(record, key) ? record[key] : undefined;

/** A record with `visit(value, key)` in place of every value. */
export const mapRecord = <A, B>(record: Readonly<Record<string, A>>, visit: (value: A, key: string) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, visit(value, key)]));
