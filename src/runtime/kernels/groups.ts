/** Which of `count` things belong together, directly or through others. */
export class Groups {
  readonly #parents: number[];

  constructor(count: number) {
    this.#parents = Array.from({ length: count }, (_, i) => i);
  }

  /** A thing that stands for all of its group. */
  find(item: number): number {
    let root = item;
    while (this.#parents[root] !== root) root = this.#parents[root] as number;
    this.#parents[item] = root;
    return root;
  }

  join(items: readonly number[]): void {
    for (const item of items) this.#parents[this.find(item)] = this.find(items[0] as number);
  }

  /** The groups in the order of their first members, members in ascending order. */
  list(): number[][] {
    const groups = new Map<number, number[]>();
    this.#parents.forEach((_, item) => {
      const root = this.find(item);
      const group = groups.get(root);
      if (group) group.push(item);
      else groups.set(root, [item]);
    });
    return [...groups.values()];
  }
}
