/** Runs tasks one after the other: a device takes one run at a time, and parallel ones hang or fail on WebGPU. */
export class RunQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `task` after all earlier ones, whether they succeeded or not. */
  add<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task);
    this.#last = result.catch(() => undefined); // the caller sees the error; the queue goes on
    return result;
  }
}
